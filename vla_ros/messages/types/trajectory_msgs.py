"""trajectory_msgs: the whole chunk as a trajectory of joints."""

from array import array
from types import SimpleNamespace
from typing import Any

import numpy as np

from vla_ros.contract import ActionSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import AsRecord, AsSink, MessageType
from vla_ros.data_types import ActionChunk, Array, DecodeError
from vla_ros.messages import encoding, samples
from vla_ros.messages.forms.vectors import joint_values
from vla_ros.messages.message_class import message_class
from vla_ros.messages.samples import Rng


def _trajectory(sink: SinkSpec, contract: RobotContract, chunk: ActionChunk) -> Any:
    """Step k is commanded at the observation's stamp plus k periods and reached one period later: its waypoint."""
    names, indices = encoding.selected(sink, contract)
    point = message_class("trajectory_msgs/msg/JointTrajectoryPoint")
    return message_class(sink.type)(
        header=encoding.header_message(chunk.observation_stamp_ns, ""),  # joint positions have no frame
        joint_names=list(sink.ros_names or names),
        points=[
            point(
                positions=array("d", row[indices].tolist()),
                time_from_start=encoding.duration_message((k + 1) * chunk.period_ns),
            )
            for k, row in enumerate(chunk.actions_HA)
        ],
    )


def _recorded(action: ActionSpec, record: RecordSpec, message: Any, place: str) -> Array:
    """Take the waypoint of a teleoperation's command; a plan of many has no one position at its stamp."""
    if len(message.points) != 1:
        raise DecodeError(f"{place}: a recorded action is one waypoint a message, got {len(message.points)}")
    joints = SimpleNamespace(name=message.joint_names, position=message.points[0].positions)
    return joint_values(joints, record.ros_names or record.names or action.names, "position", place)


def _sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, period_ns: int, rng: Rng) -> Any:
    names, empty = list(record.ros_names or record.names or action.names), np.empty(0)
    point = samples.new(
        "trajectory_msgs/msg/JointTrajectoryPoint",
        rng.normal(size=len(names)),
        empty,
        empty,
        empty,
        samples.duration_of(period_ns),
    )
    return samples.new(record.type, samples.header(stamp_ns, ""), names, [point])


ROWS = (
    MessageType(
        "trajectory_msgs/msg/JointTrajectory",
        "Every step of a prediction, as joint_trajectory_controller takes it; recorded, one waypoint a message.",
        as_record=AsRecord(("joint_position",), _recorded, _sample, carries="any"),
        as_sink=AsSink(("joint_position",), _trajectory, carries="any", whole_chunk=True),
    ),
)
