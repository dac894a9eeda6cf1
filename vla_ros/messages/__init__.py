"""Between ROS messages and the package's values: what each type can carry, decoders, encoders, samples, CDR, QoS.

What stands here by name works without ROS: decoders look only at a message's fields, so messages of rclpy and of
rosbags both serve. Modules that need rclpy or message packages (`encoders`, `executor`, `qos`, `rclpy_deserialize`)
are imported by their own names, and only by nodes.
"""

from vla_ros.contract.types import MessageType, register_message
from vla_ros.messages.decoders import decode_action, decode_input

__all__ = ["MessageType", "decode_action", "decode_input", "register_message"]
