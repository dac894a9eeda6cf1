"""Any robot of a contract, faked: messages of all its topics as functions of time, within the limits of its joints.

Messages are serialised without ROS, so that the same bytes go into bags and onto topics. Joints stand in alphabetical
order, as ros2_control publishes them, whatever the contract's order is.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from vla_ros.bags import serialize
from vla_ros.contract import InputSpec, RecordSpec, RobotContract
from vla_ros.messages import samples
from vla_ros.messages.samples import make_example_action, make_example_message

SECOND = 1_000_000_000
TF, TF_STATIC = "tf2_msgs/msg/TFMessage", "/tf_static"
RATES = {  # ROS type → Hz, where a topic has none of its own
    "sensor_msgs/msg/Image": 20,
    "sensor_msgs/msg/JointState": 50,
    "sensor_msgs/msg/Imu": 100,
    "sensor_msgs/msg/LaserScan": 10,
}
DELAY_NS = 2_000_000


class Sent(NamedTuple):
    topic: str
    type: str
    raw: bytes
    receive_ns: int


class GeneratedRobot:
    """A robot made of its contract.

    Args:
        contract: The robot.
        rates: Topic → Hz, where it is not that of `RATES` (30 Hz of other types).
    """

    def __init__(self, contract: RobotContract, rates: Mapping[str, int] | None = None) -> None:
        self.contract = contract
        records = {record.topic: record for record in contract.action.records}
        self.inputs: dict[str, InputSpec] = {spec.topic: spec for spec in reversed(contract.inputs)}
        self.records: dict[str, RecordSpec] = {t: r for t, r in records.items() if t not in self.inputs}
        self.types = {t: spec.type for t, spec in (*self.inputs.items(), *self.records.items())}
        self.rates = {t: (rates or {}).get(t, RATES.get(kind, 30)) for t, kind in self.types.items()}
        self.infos = {spec.info.topic for spec in contract.inputs if spec.info is not None}
        self._joints = {t: self._joints_of(t) for t, kind in self.types.items() if kind.endswith("/JointState")}

    def _joints_of(self, topic: str) -> list[tuple[str, str]]:
        """Name in the messages and in the contract of every joint on a topic, and one more that nobody asks for."""
        specs = [s for s in (*self.contract.inputs, *self.contract.action.records) if s.topic == topic]
        names = self.contract.action.names
        named = [(s.ros_names or s.names or names, s.names or names) for s in specs]
        pairs = {ros: own for both in named for ros, own in zip(*both, strict=True)}
        return sorted([*pairs.items(), ("zz_not_asked_for", "")])

    def static(self, stamp_ns: int) -> Sent | None:
        """What is on /tf_static: the last edge to the child of a transform."""
        spec = next((s for s in self.contract.inputs if s.transform is not None), None)
        if spec is None or spec.transform is None:
            return None
        edge = _edge("flange", spec.transform.child, stamp_ns, (0.0, 0.0, 0.1), 0.3)
        return Sent(TF_STATIC, TF, serialize(samples.new(TF, [edge]), TF), stamp_ns)

    def info(self, topic: str, stamp_ns: int) -> Sent:
        """A CameraInfo."""
        name = "sensor_msgs/msg/CameraInfo"
        k = np.array([50.0, 0, 31.5, 0, 50.0, 23.5, 0, 0, 1])
        p = np.array([50.0, 0, 31.5, 0, 0, 50.0, 23.5, 0, 0, 0, 1, 0])
        roi = samples.new("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        fields = (48, 64, "plumb_bob", np.zeros(5), k, np.eye(3).ravel(), p, 0, 0, roi)
        return Sent(topic, name, serialize(samples.new(name, samples.header(stamp_ns, ""), *fields), name), stamp_ns)

    def message(self, topic: str, stamp_ns: int) -> Sent:
        """The message of an input or record topic at a moment."""
        kind, t = self.types[topic], stamp_ns / SECOND % 1000.0
        spec = self.inputs.get(topic)
        header = samples.header(stamp_ns, None if spec is None else spec.frame)
        if kind.endswith("/JointState"):
            content = self._joint_state(topic, header, t + (0.1 if spec is None else 0.0))
        elif spec is None:
            content = self._command(topic, stamp_ns, t)
        elif kind == "sensor_msgs/msg/Image" and spec.map is None:
            content = _image(spec, header, t)
        elif kind == TF:
            assert spec.transform is not None
            at = (0.4 + 0.05 * math.sin(t), 0.1 * math.cos(t), 0.4)
            edge = _edge(spec.transform.parent, "flange", stamp_ns, at, 0.2 * math.sin(t))
            content = samples.new(TF, [edge])
        elif kind == "nav_msgs/msg/Odometry":
            content = _odometry(header, t)
        else:
            content = make_example_message(spec, stamp_ns, seed=int(t * 1000))
        return Sent(topic, kind, serialize(content, kind), stamp_ns + DELAY_NS)

    def messages(self, start_ns: int, seconds: float) -> Iterator[Sent]:
        """All messages of a span, in the order in which they are received; what is latched comes first."""
        latched = [self.static(start_ns), *(self.info(topic, start_ns) for topic in self.infos if topic)]
        yield from (sent for sent in latched if sent is not None)
        sent = [
            self.message(topic, start_ns + 1_000_000 * (3 + number) + index * SECOND // rate)
            for number, (topic, rate) in enumerate(self.rates.items())
            for index in range(int(seconds * rate))
        ]
        yield from sorted(sent, key=lambda item: item.receive_ns)

    def _joint_state(self, topic: str, header: Any, t: float) -> Any:
        names = [name for name, _ in self._joints[topic]]
        values = np.array([self._joint(own, t) for _, own in self._joints[topic]])
        return samples.new("sensor_msgs/msg/JointState", header, names, values, 0.5 * values, 10.0 * values)

    def _joint(self, name: str, t: float) -> float:
        action = self.contract.action
        low, high = -0.5, 0.5
        limit = next((limit for limit in action.limits.joint_limits if limit.name == name), None)
        if limit is not None and limit.min_position is not None and limit.max_position is not None:
            low, high = limit.min_position, limit.max_position
        elif action.gripper is not None and name == action.gripper.name:
            low, high = sorted((action.gripper.open, action.gripper.closed))
        phase = sum(map(ord, name)) % 7
        return (low + high) / 2 + 0.2 * (high - low) * math.sin(0.5 * t + phase)

    def _command(self, topic: str, stamp_ns: int, t: float) -> Any:
        record, action = self.records[topic], self.contract.action
        if not record.type.endswith(("/Twist", "/TwistStamped")):
            return make_example_action(action, stamp_ns, seed=int(t * 1000), record=record)
        planar = action.representation == "planar_twist"
        linear = (0.1 + 0.05 * math.sin(t), 0.0, 0.0) if planar else (0.1 * math.sin(t), 0.05 * math.cos(t), 0.02)
        angular = (0.0, 0.0, 0.5 * math.cos(t)) if planar else (0.0, 0.1 * math.sin(t), 0.2 * math.cos(t))
        parts = [samples.new("geometry_msgs/msg/Vector3", *values) for values in (linear, angular)]
        if record.type.endswith("/Twist"):
            return samples.new(record.type, *parts)
        twist = samples.new("geometry_msgs/msg/Twist", *parts)
        return samples.new(record.type, samples.header(stamp_ns, action.frame), twist)


def _image(spec: InputSpec, header: Any, t: float) -> Any:
    """48 x 64 pixels: a bright square that goes around, or a slope of distances with a hole that has none."""
    rows, columns = np.indices((48, 64))
    row, column = 24 + 15 * math.sin(t), 32 + 20 * math.cos(t)
    near = (np.abs(rows - row) < 4) & (np.abs(columns - column) < 4)
    if spec.depth is not None:
        middle = (spec.depth.min + spec.depth.max) / 2 / spec.depth.unit
        values = np.where(near, 0, middle * (1 + 0.3 * columns / 64)).astype(np.uint16)
        data = values.view(np.uint8).reshape(-1)
        return samples.new(spec.type, header, 48, 64, "16UC1", 0, 128, data)
    picture = np.where(near[..., None], np.uint8([250, 180, 20]), np.uint8(40)).astype(np.uint8)
    return samples.new(spec.type, header, 48, 64, "rgb8", 0, 192, picture.reshape(-1))


def _edge(parent: str, child: str, stamp_ns: int, at: tuple[float, float, float], yaw: float) -> Any:
    turn = samples.new("geometry_msgs/msg/Quaternion", 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    transform = samples.new("geometry_msgs/msg/Transform", samples.new("geometry_msgs/msg/Vector3", *at), turn)
    return samples.new("geometry_msgs/msg/TransformStamped", samples.header(stamp_ns, parent), child, transform)


def _odometry(header: Any, t: float) -> Any:
    yaw = 0.5 * math.sin(t)
    turn = samples.new("geometry_msgs/msg/Quaternion", 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))
    pose = samples.new("geometry_msgs/msg/Pose", samples.new("geometry_msgs/msg/Point", 0.1 * t, 0.0, 0.0), turn)
    parts = [samples.new("geometry_msgs/msg/Vector3", *v) for v in ((0.1, 0.0, 0.0), (0.0, 0.0, 0.5 * math.cos(t)))]
    twist = samples.new("geometry_msgs/msg/Twist", *parts)
    return samples.new(
        "nav_msgs/msg/Odometry",
        header,
        "base_footprint",
        samples.new("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
        samples.new("geometry_msgs/msg/TwistWithCovariance", twist, np.zeros(36)),
    )
