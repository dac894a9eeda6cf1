"""nav_msgs: odometry."""

from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec
from vla_ros.contract.types import AsRecord, MessageType
from vla_ros.data_types import Array
from vla_ros.messages import samples
from vla_ros.messages.cartesian import motion_of_pose, motion_of_twist
from vla_ros.messages.forms.fields import POSE, TWIST, fields_input, under
from vla_ros.messages.frames import check_frame
from vla_ros.messages.samples import Rng


def _odometry_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    return _odometry(spec.type, stamp_ns, spec.frame, "base_link", rng)


def _odometry(type_name: str, stamp_ns: int, frame: str | None, child: str, rng: Rng) -> Any:
    pose = samples.pose_with_covariance(rng)
    twist = samples.new("geometry_msgs/msg/TwistWithCovariance", samples.twist(rng), np.zeros(36))
    return samples.new(type_name, samples.header(stamp_ns, frame), child, pose, twist)


def _recorded_odometry(action: ActionSpec, _: RecordSpec, message: Any, place: str) -> Array:
    """Take the pose in the frame of the header, or the velocity in the child frame, as nav_msgs define them."""
    if action.representation == "pose":
        check_frame(message.header.frame_id, action.frame, place)
        return motion_of_pose(action, message.pose.pose, place)
    check_frame(message.child_frame_id, action.frame, place, "child_frame_id")
    return motion_of_twist(action, message.twist.twist, place)


def _recorded_odometry_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, _: int, rng: Rng) -> Any:
    return _odometry(record.type, stamp_ns, action.frame, action.frame, rng)


ROWS = (
    MessageType(
        "nav_msgs/msg/Odometry",
        "Pose in the frame of the header and velocity in the child frame.",
        as_input=fields_input(under("pose", POSE) + under("twist.twist", TWIST), _odometry_sample),
        as_record=AsRecord(("pose", "twist", "planar_twist"), _recorded_odometry, _recorded_odometry_sample),
    ),
)
