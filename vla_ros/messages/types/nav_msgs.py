"""nav_msgs: odometry, and paths of waypoints."""

from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import AsInput, AsRecord, AsSink, MessageType
from vla_ros.data_types import ActionChunk, Array, ContractError, DecodeError
from vla_ros.messages import encoding, samples
from vla_ros.messages.cartesian import motion_of_pose, motion_of_twist
from vla_ros.messages.encoding import Floats
from vla_ros.messages.forms.fields import POSE, TWIST, fields_input, under
from vla_ros.messages.forms.paths import PATH_FIELDS, checked_pose, decode_path
from vla_ros.messages.frames import check_frame
from vla_ros.messages.message_class import message_class
from vla_ros.messages.samples import Rng


def _odometry_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return _odometry(spec.type, stamp_ns, spec.frame, "base_link", rng)


def _odometry(type_name: str, stamp_ns: int, frame: str | None, child: str, rng: Rng) -> Any:
    pose = samples.pose_with_covariance(rng)
    twist = samples.new("geometry_msgs/msg/TwistWithCovariance", samples.twist(rng), np.zeros(36))
    return samples.new(type_name, samples.header(stamp_ns, frame), child, pose, twist)


def _recorded_odometry(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    """Take the pose in the frame of the header, or the velocity in the child frame, as nav_msgs define them."""
    if action.representation in ("pose", "trajectory"):
        check_frame(message.header.frame_id, action.frame, place)
        return motion_of_pose(action, message.pose.pose, place)
    check_frame(message.child_frame_id, action.frame, place, "child_frame_id")
    return motion_of_twist(action, message.twist.twist, place)


def _recorded_odometry_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, _: int, rng: Rng) -> Any:
    return _odometry(record.type, stamp_ns, action.frame, action.frame, rng)


def _path(spec: InputSpec, message: Any, place: str) -> Array:
    if spec.points is None:
        raise ValueError(f"{spec.key}: a {spec.type} needs its form; contracts from `parse_contract` have it")
    return decode_path(spec.points, message, place)


def _path_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    count = 10 if spec.points is None else 2 * spec.points.count
    return _path_of(spec.type, stamp_ns, spec.frame, count, rng)


def _path_of(type_name: str, stamp_ns: int, frame: str | None, count: int, rng: Rng) -> Any:
    header = samples.header(stamp_ns, frame)
    poses = [samples.new("geometry_msgs/msg/PoseStamped", header, samples.pose(rng)) for _ in range(count)]
    return samples.new(type_name, header, poses)


def _recorded_path(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    """Take the waypoint of a teleoperation's command; a plan of many has no one pose at its stamp."""
    check_frame(message.header.frame_id, action.frame, place)
    if len(message.poses) != 1:
        raise DecodeError(f"{place}: a recorded action is one waypoint a message, got {len(message.poses)}")
    return motion_of_pose(action, checked_pose(message, 0, place), place)


def _recorded_path_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, _: int, rng: Rng) -> Any:
    return _path_of(record.type, stamp_ns, action.frame, 1, rng)


def _waypoint(sink: SinkSpec, contract: RobotContract, action: Floats) -> tuple[Floats, Floats]:
    """Return a step's position [3] and orientation as a quaternion [4]."""
    if contract.action.representation == "trajectory":
        x, y, yaw = action.tolist()
        return np.array([x, y, 0.0]), np.array([0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2)])
    quaternion = encoding.rotation_in(contract, action, "quaternion")
    if quaternion is None:
        raise ContractError(f"{sink.topic}: a Path commands orientations, but the action has none")
    return action[:3], quaternion


def _path_command(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    """Step k is commanded at the observation's stamp plus k periods and reached one period later: its waypoint."""
    frame, poses = contract.action.frame, []
    for k, action in enumerate(chunk.actions_HA):
        position, quaternion = _waypoint(sink, contract, action)
        at_ns = chunk.observation_stamp_ns + (k + 1) * chunk.period_ns
        stamped = message_class("geometry_msgs/msg/PoseStamped")
        poses.append(
            stamped(header=encoding.header_message(at_ns, frame), pose=encoding.pose_message(position, quaternion))
        )
    return message_class(sink.type)(header=encoding.header_message(chunk.observation_stamp_ns, frame), poses=poses)


ROWS = (
    MessageType(
        "nav_msgs/msg/Odometry",
        "Pose in the frame of the header and velocity in the child frame.",
        as_input=fields_input(under("pose", POSE) + under("twist.twist", TWIST), _odometry_sample),
        as_record=AsRecord(
            ("pose", "twist", "planar_twist", "trajectory"), _recorded_odometry, _recorded_odometry_sample
        ),
    ),
    MessageType(
        "nav_msgs/msg/Path",
        "Waypoints of a plan, in the frame of the header; recorded, one a message; sent, every step of a prediction.",
        as_input=AsInput("points", _path, _path_sample, PATH_FIELDS, ("x", "y", "yaw")),
        as_record=AsRecord(("pose", "trajectory"), _recorded_path, _recorded_path_sample),
        as_sink=AsSink(("pose", "trajectory"), _path_command, whole_chunk=True, needs_rotation=True),
    ),
)
