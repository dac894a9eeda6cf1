"""trajectory_msgs: the whole chunk as a trajectory of joints."""

from array import array
from typing import Any

from vla_ros.contract import RobotContract, SinkSpec
from vla_ros.contract.types import AsSink, MessageType
from vla_ros.data_types import ActionChunk
from vla_ros.messages import encoding
from vla_ros.messages.message_class import message_class


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


ROWS = (
    MessageType(
        "trajectory_msgs/msg/JointTrajectory",
        "Every step of a prediction, as ros2_control's joint_trajectory_controller takes it.",
        as_sink=AsSink(("joint_position",), _trajectory, carries="any", whole_chunk=True),
    ),
)
