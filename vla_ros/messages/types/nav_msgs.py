"""nav_msgs: odometry."""

from typing import Any

import numpy as np

from vla_ros.contract import InputSpec
from vla_ros.contract.types import MessageType
from vla_ros.messages import samples
from vla_ros.messages.forms.fields import POSE, TWIST, fields_input, under
from vla_ros.messages.samples import Rng


def _odometry_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    pose = samples.pose_with_covariance(rng)
    twist = samples.new("geometry_msgs/msg/TwistWithCovariance", samples.twist(rng), np.zeros(36))
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), "base_link", pose, twist)


ROWS = (
    MessageType(
        "nav_msgs/msg/Odometry",
        "Pose in the frame of the header and velocity in the child frame.",
        as_input=fields_input(under("pose", POSE) + under("twist.twist", TWIST), _odometry_sample),
    ),
)
