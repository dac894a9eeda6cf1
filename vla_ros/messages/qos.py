"""The contract's quality of service → rclpy's. Imports rclpy; for nodes."""

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from vla_ros.contract import QosSpec


def to_profile(spec: QosSpec) -> QoSProfile:
    """Return the QoSProfile of a contract entry: keep last `depth`."""
    local = spec.durability == "transient_local"
    durability = DurabilityPolicy.TRANSIENT_LOCAL if local else DurabilityPolicy.VOLATILE
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=spec.depth,
        reliability=ReliabilityPolicy.RELIABLE if spec.reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT,
        durability=durability,
    )
