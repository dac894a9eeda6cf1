"""Between ROS messages and the package's values: decoders, streams, observations, encoders, bags, QoS.

What stands here by name works without ROS: decoders look only at a message's fields, so messages of rclpy and of
rosbags both serve, and how bytes become a message is passed in as a function. Modules that need rclpy or message
packages (`encoders`, `qos`, `rclpy_deserialize`) are imported by their own names, and only by nodes.
"""

from vla_ros.ros_io.action_stream import ActionStream
from vla_ros.ros_io.decoders import decode_action, decode_input
from vla_ros.ros_io.observation_pipeline import Assembled, MissingInput, ObservationPipeline
from vla_ros.ros_io.stream import Deserialize, StreamStatus

__all__ = [
    "ActionStream",
    "Assembled",
    "Deserialize",
    "MissingInput",
    "ObservationPipeline",
    "StreamStatus",
    "decode_action",
    "decode_input",
]
