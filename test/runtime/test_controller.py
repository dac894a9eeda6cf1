"""The controller under moments that the test gives it: what is commanded, and how it reacts to why nothing is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import RobotContract, load_contract, parse_contract
from vla_ros.data_types import ActionChunk, Command, ContractError
from vla_ros.runtime import ChunkExecutor, ControlState
from vla_ros.runtime.controller import Controller, Situation
from vla_ros.safety import Measured, SafetyFilter
from vla_ros.schema import load_yaml
from vla_ros.streams import MissingInput

SAWYER_FILE = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
SAWYER = load_contract(SAWYER_FILE)
PERIOD = 50_000_000
HOME = Measured(position=np.array([0.0, 0.6, 0.2]))


def chunk(tick: int, chunk_id: int = 1, horizon: int = 4, dx: float = 0.005) -> ActionChunk:
    return ActionChunk(np.tile([dx, 0.0, 0.0, 1.0], (horizon, 1)), tick * PERIOD, PERIOD, chunk_id)


class Loop:
    """A controller whose moments are called one by one; what it publishes is kept."""

    def __init__(self, contract: RobotContract = SAWYER, measured: Measured | None = HOME) -> None:
        self.now = Situation(measured=measured)
        self.commands: list[Command] = []
        self.chunks: list[ActionChunk] = []
        self.telemetry: list[ActionChunk] = []
        self.executor = ChunkExecutor(contract.action, contract.fps)
        self.safety = SafetyFilter(contract, require_measurement=True)
        self.controller = Controller(self.executor, self.safety)

    def tick(self, index: int) -> ControlState:
        output = self.controller.control(index * PERIOD, self.now)
        if output.command is not None:
            self.commands.append(output.command)
        if output.chunk is not None:
            (self.chunks if output.moves else self.telemetry).append(output.chunk)
        return self.controller.status.state

    def run(self, first: int, ticks: int) -> list[float]:
        """The first numbers commanded over some ticks."""
        before = len(self.commands)
        for index in range(first, first + ticks):
            self.tick(index)
        return [float(command.action[0]) for command in self.commands[before:]]

    def lacks(self, *on_missing: str) -> None:
        items = [MissingInput("observation.images.front", "/camera", 0.3, 0.2, "stale", how) for how in on_missing]
        self.now = replace(self.now, missing=tuple(items))


def test_it_commands_the_step_that_is_due() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    assert subject.tick(2) is ControlState.RUNNING
    assert (subject.commands[0].chunk_index, subject.commands[0].effect_ns) == (2, 2 * PERIOD)


def test_stop_means_one_zero_command_and_then_silence() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    assert subject.run(0, 2) == [0.005, 0.005]
    subject.lacks("stop")
    assert subject.run(2, 5) == [0.0]
    assert subject.commands[-1].action[3] == 1.0  # the gripper keeps what it was told
    assert subject.controller.status.state is ControlState.STOPPED
    assert "'observation.images.front'" in subject.controller.status.message


def test_hold_means_zero_commands_at_the_rate() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 2)
    subject.lacks("hold")
    assert subject.run(2, 3) == [0.0, 0.0, 0.0]
    assert subject.controller.status.state is ControlState.HOLDING


def test_abort_stops_and_asks_to_be_deactivated() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 1)
    subject.lacks("abort")
    assert subject.run(1, 3) == [0.0]
    assert subject.controller.must_abort


def test_the_gravest_of_several_missing_inputs_decides() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 1)
    subject.lacks("hold", "stop")
    assert subject.run(1, 3) == [0.0]


def test_what_was_decided_before_an_input_went_does_not_resume() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=20))
    subject.run(0, 2)
    subject.lacks("stop")
    subject.run(2, 1)
    subject.now = Situation(measured=HOME)
    assert subject.run(3, 2) == []
    assert subject.controller.status.state is ControlState.WAITING
    subject.executor.submit(chunk(4, chunk_id=2))
    assert subject.run(5, 1) == [0.005]


def test_a_used_up_chunk_becomes_zero_motion_and_the_status_says_why() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=2))
    assert subject.run(0, 4) == [0.005, 0.005, 0.0, 0.0]
    assert "too slow" in subject.controller.status.message


def test_a_policy_that_decides_nothing_is_a_stop_with_its_cause() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=20))
    subject.run(0, 1)
    subject.now = replace(subject.now, problem="'dx' of step 3 is nan.")
    assert subject.run(1, 3) == [0.0]
    assert "'dx' of step 3 is nan" in subject.controller.status.message


def test_a_dropped_command_is_a_stop_that_is_counted_by_its_reason() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 1)
    subject.now = Situation(measured=Measured())
    assert subject.run(1, 3) == [0.0]
    assert "position_unknown" in subject.controller.status.message
    assert subject.controller.dropped == {"position_unknown": 3}
    assert subject.controller.interventions == 3


def test_in_a_dry_run_chunks_are_telemetry_and_nothing_moves() -> None:
    subject = Loop()
    subject.now = replace(subject.now, enabled=False)
    subject.executor.submit(chunk(0, horizon=20))
    assert subject.run(0, 3) == []
    assert subject.chunks == []
    assert [c.chunk_id for c in subject.telemetry] == [1]
    assert subject.controller.status.state is ControlState.RUNNING


def test_taking_control_away_stops_the_robot_once() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=20))
    assert subject.run(0, 1) == [0.005]
    subject.now = replace(subject.now, enabled=False)
    assert subject.run(1, 3) == [0.0]


def test_a_chunk_is_published_once_and_voided_when_the_robot_must_stop() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 3)
    assert [c.chunk_id for c in subject.chunks] == [1]
    subject.safety.stop.latch()
    subject.run(3, 2)
    assert [c.chunk_id for c in subject.chunks] == [1, 0]
    assert subject.chunks[-1].actions_HA[0, 0] == 0.0


def test_before_the_first_command_a_silent_input_is_waited_for() -> None:
    subject = Loop()
    subject.lacks("stop")
    assert subject.tick(0) is ControlState.WAITING
    assert subject.commands == []


def joint_contract() -> RobotContract:
    content = load_yaml(SAWYER_FILE, ContractError)
    content["inputs"] = [
        {
            "key": "observation.joints",
            "topic": "/joint_states",
            "type": "sensor_msgs/msg/JointState",
            "joints": ["j1", "j2"],
            "max_age_s": 0.2,
        }
    ]
    topic = {"topic": "/command", "type": "std_msgs/msg/Float64MultiArray"}
    content["action"] = {
        "representation": "joint_position",
        "names": ["j1", "j2"],
        "units": ["rad", "rad"],
        "record": {**topic, "max_age_s": 0.1, "alignment": {"timeline": "receive"}},
        "sinks": [topic],
        "limits": {"lower": [-3.0, -3.0], "upper": [3.0, 3.0], "max_angular_speed": 0.5},
    }
    content.pop("goal")
    return parse_contract(content, "joints.yaml")


def joints_at(j1: float) -> Measured:
    return Measured(joints=np.array([j1, 0.0]))


def joints_chunk(tick: int, j1: float, chunk_id: int = 1) -> ActionChunk:
    return ActionChunk(np.tile([j1, 0.0], (100, 1)), tick * PERIOD, PERIOD, chunk_id)


def test_the_first_joint_command_starts_from_where_the_arm_is() -> None:
    subject = Loop(joint_contract(), joints_at(0.0))
    subject.executor.submit(joints_chunk(0, 2.5))
    assert subject.run(0, 3) == pytest.approx([0.025, 0.05, 0.075])


@pytest.mark.parametrize("pause", ["stop", "dry run", "dropout", "problem", "chunk ended"])
def test_after_a_pause_in_which_the_arm_was_moved_commands_start_from_where_it_is(pause: str) -> None:
    subject = Loop(joint_contract(), joints_at(0.0))
    subject.executor.submit(joints_chunk(0, 0.0))
    subject.run(0, 5)
    if pause == "stop":
        subject.safety.stop.latch()
    elif pause == "dry run":
        subject.now = replace(subject.now, enabled=False)
    elif pause == "dropout":
        subject.lacks("stop")
    elif pause == "problem":
        subject.now = replace(subject.now, problem="The policy decides nothing.")
    else:
        subject.executor.clear()
    subject.run(5, 5)
    subject.safety.stop.reset()
    subject.now = Situation(measured=joints_at(1.0))  # moved by hand
    subject.executor.submit(joints_chunk(10, 2.0, chunk_id=2))
    assert subject.run(10, 2) == pytest.approx([1.025, 1.05])


def test_an_arm_that_does_not_follow_is_stopped_until_somebody_resets_it() -> None:
    subject = Loop(joint_contract(), joints_at(0.0))  # and it stays there
    subject.executor.submit(joints_chunk(0, 2.5))
    commanded = subject.run(0, 40)
    assert max(commanded) <= 0.5 * 0.5 + 0.025 + 1e-9  # half a second of the speed limit, and one step
    assert subject.safety.stop.latched
    assert "following_error" in subject.controller.status.message
    assert "reset_stop" in subject.controller.status.message
    subject.safety.stop.reset()
    subject.now = Situation(measured=joints_at(0.1))
    subject.executor.submit(joints_chunk(40, 2.5, chunk_id=2))
    assert subject.run(41, 1) == pytest.approx([0.125])
