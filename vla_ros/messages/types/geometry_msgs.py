"""geometry_msgs: poses, twists, wrenches, as inputs, recorded actions and commands."""

from typing import Any

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import AsRecord, AsSink, MessageType, SensorKey
from vla_ros.data_types import Array, Command, ContractError
from vla_ros.messages import encoding, samples
from vla_ros.messages.cartesian import motion_of_pose, motion_of_twist
from vla_ros.messages.forms.fields import POSE, TWIST, fields_input, under, xyz
from vla_ros.messages.frames import check_frame
from vla_ros.messages.message_class import message_class
from vla_ros.messages.samples import Rng


def _pose_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), samples.pose(rng))


def _recorded_pose(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    check_frame(message.header.frame_id, action.frame, place)
    return motion_of_pose(action, message.pose, place)


def _recorded_pose_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, _: int, rng: Rng) -> Any:
    return samples.new(record.type, samples.header(stamp_ns, action.frame), samples.pose(rng))


def _pose_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    quaternion = encoding.rotation_in(contract, command.action, "quaternion")
    if quaternion is None:
        raise ContractError(f"{sink.topic}: a PoseStamped commands an orientation, but the action has none")
    header = encoding.header_message(command.effect_ns, contract.action.frame)
    return message_class(sink.type)(header=header, pose=encoding.pose_message(command.action[:3], quaternion))


def _twist_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), samples.twist(rng))


def _recorded_twist(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    check_frame(message.header.frame_id, action.frame, place)
    return motion_of_twist(action, message.twist, place)


def _recorded_twist_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, _: int, rng: Rng) -> Any:
    return samples.new(record.type, samples.header(stamp_ns, action.frame), samples.twist(rng))


def _twist_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    linear, angular = map(encoding.vector3_message, encoding.twist_of(sink, contract, command))
    twist = message_class("geometry_msgs/msg/Twist")(linear=linear, angular=angular)
    header = encoding.header_message(command.effect_ns, contract.action.frame)
    return message_class(sink.type)(header=header, twist=twist)


def _bare_twist_sample(spec: InputSpec, _: int, rng: Rng) -> Any:
    return samples.new(spec.type, samples.vector3(rng), samples.vector3(rng))


def _recorded_bare_twist(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    return motion_of_twist(action, message, place)


def _recorded_bare_twist_sample(_: ActionSpec, record: RecordSpec, __: int, ___: int, rng: Rng) -> Any:
    return samples.new(record.type, samples.vector3(rng), samples.vector3(rng))


def _bare_twist_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    linear, angular = map(encoding.vector3_message, encoding.twist_of(sink, contract, command))
    return message_class(sink.type)(linear=linear, angular=angular)


def _pose_with_covariance_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), samples.pose_with_covariance(rng))


def _recorded_pose_with_covariance(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    check_frame(message.header.frame_id, action.frame, place)
    return motion_of_pose(action, message.pose.pose, place)


def _recorded_pose_with_covariance_sample(action: ActionSpec, record: RecordSpec, at: int, _: int, rng: Rng) -> Any:
    return samples.new(record.type, samples.header(at, action.frame), samples.pose_with_covariance(rng))


def _vector3_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), samples.vector3(rng))


def _point_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    point = samples.new("geometry_msgs/msg/Point", *rng.normal(size=3).tolist())
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), point)


def _wrench_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    wrench = samples.new("geometry_msgs/msg/Wrench", samples.vector3(rng), samples.vector3(rng))
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), wrench)


ROWS = (
    MessageType(
        "geometry_msgs/msg/Twist",
        "A velocity without stamp and frame, as `/cmd_vel` of a mobile base.",
        has_header=False,
        as_input=fields_input(TWIST, _bare_twist_sample),
        as_record=AsRecord(("twist", "planar_twist"), _recorded_bare_twist, _recorded_bare_twist_sample),
        as_sink=AsSink(("displacement", "twist", "planar_twist", "trajectory"), _bare_twist_command),
    ),
    MessageType(
        "geometry_msgs/msg/Vector3Stamped",
        "A vector: a magnetic field, a force.",
        as_input=fields_input(xyz("vector"), _vector3_sample),
    ),
    MessageType("geometry_msgs/msg/PointStamped", "A position, m.", as_input=fields_input(xyz("point"), _point_sample)),
    MessageType(
        "geometry_msgs/msg/PoseWithCovarianceStamped",
        "A pose as localisation publishes it; the covariance is not read.",
        as_input=fields_input(under("pose", POSE), _pose_with_covariance_sample),
        as_record=AsRecord(
            ("pose", "trajectory"), _recorded_pose_with_covariance, _recorded_pose_with_covariance_sample
        ),
    ),
    MessageType(
        "geometry_msgs/msg/PoseStamped",
        "A pose, m and quaternion x, y, z, w.",
        as_input=fields_input(POSE, _pose_sample),
        as_record=AsRecord(("pose", "trajectory"), _recorded_pose, _recorded_pose_sample),
        as_sink=AsSink(("pose",), _pose_command, needs_rotation=True),
    ),
    MessageType(
        "geometry_msgs/msg/TwistStamped",
        "A velocity, m/s and rad/s; as a command also MoveIt Servo's, unitless.",
        as_input=fields_input(under("twist", TWIST), _twist_sample),
        as_record=AsRecord(("twist", "planar_twist"), _recorded_twist, _recorded_twist_sample),
        as_sink=AsSink(("displacement", "twist", "planar_twist", "trajectory"), _twist_command),
    ),
    MessageType(
        "geometry_msgs/msg/WrenchStamped",
        "Force and torque, N and Nm.",
        as_input=fields_input(
            under("wrench", xyz("force") + xyz("torque")), _wrench_sample, SensorKey("observation.wrench.<name>")
        ),
    ),
)
