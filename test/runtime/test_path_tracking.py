"""Following a trajectory: the arc of pure pursuit, its speed, and a simulated base that arrives."""

import math
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import NANOSECONDS, ActionChunk, ConfigError, Observation
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.runtime import ControlState, ManualClock, PolicyRuntime, PredictorSpec, RuntimeOptions
from vla_ros.runtime.path_tracking import PathTracker, wrapped

FPS, KEY = 10, "observation.state"
PERIOD_NS = NANOSECONDS // FPS
POSE = ("position.x", "position.y", "orientation.z", "orientation.w")


def content(**action: Any) -> dict[str, Any]:
    return {
        "robot_type": "base",
        "fps": FPS,
        "base_frame": "base_link",
        "inputs": [
            {
                "key": KEY,
                "topic": "/odom",
                "type": "nav_msgs/msg/Odometry",
                "frame": "odom",
                "fields": [f"pose.pose.{name}" for name in POSE],
                "max_age_s": 0.3,
            }
        ],
        "action": {
            "representation": "trajectory",
            "names": ["x", "y", "yaw"],
            "units": ["m", "m", "rad"],
            "frame": "odom",
            "record": {"topic": "/odom", "type": "nav_msgs/msg/Odometry", "next_state": True, "max_age_s": 0.3},
            "tracker": {"lookahead_m": 0.3},
            "sinks": [
                {"topic": "/plan", "type": "nav_msgs/msg/Path"},
                {"topic": "/cmd_vel", "type": "geometry_msgs/msg/Twist"},
            ],
            "limits": {
                "max_speed": 0.8, "max_angular_speed": 2.0, "max_acceleration": 2.0, "max_angular_acceleration": 8.0,
            },
            **action,
        },
        "instruction": {"default": "drive"},
    }  # fmt: skip


def make_contract(**action: Any) -> RobotContract:
    return parse_contract(content(**action), "base.yaml")


def chunk_of(*waypoints: tuple[float, float, float]) -> ActionChunk:
    return ActionChunk(np.array(waypoints, dtype=np.float64), 0, PERIOD_NS, 1)


def twist(chunk: ActionChunk, base: tuple[float, float, float] = (0.0, 0.0, 0.0), t_s: float = 0.0) -> list[float]:
    found: list[float] = PathTracker(make_contract()).twist(chunk, round(t_s * NANOSECONDS), np.array(base)).tolist()
    return found


class TestTwist:
    def test_a_straight_path_is_driven_at_its_own_speed(self) -> None:
        ahead = chunk_of(*((0.05 * (k + 1), 0.0, 0.0) for k in range(10)))  # 0.5 m/s
        assert twist(ahead) == pytest.approx([0.5, 0.0])

    def test_an_arc_is_driven_with_its_own_curvature(self) -> None:
        # a circle of radius 1 m to the left at 0.4 m/s: the chord of pure pursuit lies on that very circle
        angles = [0.04 * (k + 1) for k in range(20)]
        arc = chunk_of(*((math.sin(a), 1 - math.cos(a), a) for a in angles))
        speed, turn = twist(arc)
        assert speed == pytest.approx(0.4, rel=1e-6)
        assert turn == pytest.approx(0.4, rel=1e-6)

    def test_the_frame_of_the_path_is_not_the_frame_of_the_base(self) -> None:
        ahead = [(0.05 * (k + 1), 0.0) for k in range(10)]
        turned = math.radians(140)
        cosine, sine = math.cos(turned), math.sin(turned)
        moved = chunk_of(*((3 + cosine * x - sine * y, -2 + sine * x + cosine * y, turned) for x, y in ahead))
        assert twist(moved, (3.0, -2.0, turned)) == pytest.approx([0.5, 0.0], abs=1e-12)

    def test_a_late_base_catches_up_within_the_limit(self) -> None:
        ahead = chunk_of(*((0.05 * (k + 1), 0.0, 0.0) for k in range(10)))
        speed, _ = twist(ahead, (-0.1, 0.0, 0.0))
        assert 0.5 < speed <= 0.8
        assert twist(ahead, (-2.0, 0.0, 0.0))[0] == pytest.approx(0.8)

    def test_what_lies_behind_is_turned_to_on_the_spot(self) -> None:
        behind = chunk_of(*((-0.05 * (k + 1), 0.01, math.pi) for k in range(10)))
        speed, turn = twist(behind)
        assert speed == 0.0
        assert 0 < turn <= 2.0

    def test_a_tight_arc_is_driven_slower_and_not_wider(self) -> None:
        tight = chunk_of(*((0.2 * math.sin(a), 0.2 * (1 - math.cos(a)), a) for a in np.linspace(0.3, 1.5, 5)))
        speed, turn = twist(tight)
        assert turn == pytest.approx(2.0)
        assert speed / turn == pytest.approx(0.2, rel=0.05)

    def test_at_the_end_the_yaw_is_turned_to(self) -> None:
        stay = chunk_of(*((0.0, 0.0, 1.0),) * 5)
        assert twist(stay) == pytest.approx([0.0, 2.0])
        assert twist(stay, (0.0, 0.0, 0.99)) == pytest.approx([0.0, 0.01 / 0.5])

    def test_nothing_is_left_after_the_last_waypoint(self) -> None:
        assert twist(chunk_of((1.0, 0.0, 0.0)), t_s=0.2) == [0.0, 0.0]


def test_a_chunk_for_others_is_no_faster_than_the_base_may_be() -> None:
    tracker = PathTracker(make_contract())
    wild = chunk_of((0.5, 0.0, 0.0), (0.5, 3.0, 3.0), (0.5, 3.0, -3.0))
    bounded = tracker.bounded(wild, np.array([0.0, 0.0, 0.0])).actions_HA
    steps = np.diff(np.vstack([[0.0, 0.0, 0.0], bounded]), axis=0)
    assert (np.hypot(steps[:, 0], steps[:, 1]) <= 0.08 + 1e-12).all()
    assert all(abs(wrapped(turn)) <= 0.2 + 1e-12 for turn in steps[:, 2])
    calm = chunk_of((0.05, 0.0, 0.1), (0.1, 0.0, 0.2))
    np.testing.assert_allclose(tracker.bounded(calm, np.zeros(3)).actions_HA, calm.actions_HA)


class Planner:
    """Predicts waypoints on the way from where the base is to a goal, at 0.5 m/s."""

    spec = PredictorSpec((KEY,), (), 1, 12, 12)

    def __init__(self, goal: tuple[float, float]) -> None:
        self.goal = np.array(goal)

    def begin_episode(self) -> None: ...

    def is_prepared(self, instruction: str) -> bool:
        return True

    def prepare(self, instruction: str) -> None: ...

    def predict(self, observation: Observation, is_known: Any) -> Any:
        x, y, _, _ = np.asarray(observation.values[KEY])[-1].tolist()
        way = self.goal - [x, y]
        length = float(np.hypot(*way))
        steps = np.minimum(0.05 * np.arange(1, 13), length) / max(length, 1e-9)
        yaw = math.atan2(way[1], way[0])
        return np.array([[x + s * way[0], y + s * way[1], yaw] for s in steps])


class Base:
    """A unicycle that does what it is told, and its odometry."""

    def __init__(self, pose: tuple[float, float, float]) -> None:
        self.pose = np.array(pose)
        self.twists: list[tuple[float, float]] = []

    def odometry(self, stamp_ns: int) -> bytes:
        types = typestore().types
        x, y, yaw = self.pose.tolist()
        stamp = types["builtin_interfaces/msg/Time"](stamp_ns // NANOSECONDS, stamp_ns % NANOSECONDS)
        header = types["std_msgs/msg/Header"](stamp, "odom")
        point = types["geometry_msgs/msg/Point"](x, y, 0.0)
        turn = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
        pose = types["geometry_msgs/msg/PoseWithCovariance"](types["geometry_msgs/msg/Pose"](point, turn), np.zeros(36))
        zero = types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
        twist = types["geometry_msgs/msg/Twist"](zero, zero)
        velocity = types["geometry_msgs/msg/TwistWithCovariance"](twist, np.zeros(36))
        odometry = types["nav_msgs/msg/Odometry"](header, "base_link", pose, velocity)
        return serialize(odometry, "nav_msgs/msg/Odometry")

    def drive(self, speed: float, turn: float, duration_s: float) -> None:
        self.twists.append((speed, turn))
        x, y, yaw = self.pose.tolist()
        middle = yaw + turn * duration_s / 2
        dx, dy = speed * math.cos(middle) * duration_s, speed * math.sin(middle) * duration_s
        self.pose = np.array([x + dx, y + dy, yaw + turn * duration_s])


def runtime_of(contract: RobotContract, planner: Planner, clock: ManualClock) -> PolicyRuntime:
    runtime = PolicyRuntime(contract, planner, deserialize, clock, RuntimeOptions(instruction="drive"))
    runtime.start()
    return runtime


def run(goal: tuple[float, float], start: tuple[float, float, float], seconds: float) -> tuple[Base, list[Any]]:
    clock = ManualClock(0)
    runtime, base = runtime_of(make_contract(), Planner(goal), clock), Base(start)
    outputs = []
    for tick in range(1, round(seconds * FPS)):
        now_ns = tick * PERIOD_NS
        clock.set(now_ns)
        runtime.push(0, base.odometry(now_ns), now_ns)
        observed = runtime.observe(every_tick=True)
        if observed is not None and (decision := runtime.decide()) is not None:
            runtime.deliver(decision, now_ns)
        output = runtime.control(now_ns)
        outputs.append(output)
        speed, turn = (0.0, 0.0) if output.command is None else output.command.action.tolist()
        base.drive(speed, turn, 1 / FPS)
    return base, outputs


@pytest.mark.parametrize("start", [(0.0, 0.0, 0.0), (0.0, 0.0, 3.0), (1.0, -1.0, -2.0)])
def test_a_base_arrives_within_its_limits(start: tuple[float, float, float]) -> None:
    base, outputs = run((2.0, 1.0), start, 14)
    assert math.hypot(base.pose[0] - 2.0, base.pose[1] - 1.0) < 0.05
    twists = np.array(base.twists)
    assert (twists[:, 0] >= 0).all()
    assert (twists[:, 0] <= 0.8 + 1e-9).all()
    assert (np.abs(twists[:, 1]) <= 2.0 + 1e-9).all()
    assert (np.diff(twists[:, 0]) <= 0.2 + 1e-9).all()  # 2 m/s² in a tenth of a second
    chunks = [output.chunk for output in outputs if output.chunk is not None]
    assert chunks
    assert all(chunk.actions_HA.shape[1] == 3 for chunk in chunks)


def test_a_base_that_nobody_measures_is_not_driven() -> None:
    contract = make_contract()
    clock = ManualClock(0)
    runtime, base = runtime_of(contract, Planner((2.0, 0.0)), clock), Base((0.0, 0.0, 0.0))
    for tick in range(1, 12):
        now_ns = tick * PERIOD_NS
        clock.set(now_ns)
        if tick < 6:
            runtime.push(0, base.odometry(now_ns), now_ns)
            runtime.observe(every_tick=True)
            decision = runtime.decide()
            if decision is not None:
                runtime.deliver(decision, now_ns)
        output = runtime.control(now_ns)
    assert runtime.controller.status.state is ControlState.STOPPED
    assert "/odom" in runtime.controller.status.message
    assert output.command is None or not output.command.action.any()


def test_averaging_single_steps_of_trajectories_is_refused() -> None:
    options = RuntimeOptions(chunk_mode="temporal_ensemble")
    with pytest.raises(ConfigError, match="temporal_ensemble"):
        PolicyRuntime(make_contract(), Planner((0, 0)), deserialize, ManualClock(0), options)
