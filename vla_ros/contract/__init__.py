"""The robot's contract: topic ↔ feature key, order, units, rates, action space. No rclpy, no torch.

A contract is written once as YAML under ``config/robots/`` and read by everything else.
"""

from vla_ros.contract.hashing import HASH_VERSION, contract_differences, is_hash_of
from vla_ros.contract.measurement import MeasurementSpec, measured_sources
from vla_ros.contract.parse import load_contract, parse_contract
from vla_ros.contract.schema import (
    GOAL_IMAGE,
    INSTRUCTION,
    NEVER_TOO_OLD_S,
    ROTATION_WIDTH,
    ActionSpec,
    AlignmentSpec,
    CameraInfoSpec,
    DepthSpec,
    FeatureSpec,
    GripperSpec,
    ImageSpec,
    InputSpec,
    JointLimit,
    LimitsSpec,
    MapSpec,
    MeasuredPart,
    MeasuredSpec,
    PointsSpec,
    QosSpec,
    RecordSpec,
    RobotContract,
    SinkSpec,
    TransformSpec,
    WindowSpec,
)
from vla_ros.contract.self_contained import contract_text
from vla_ros.schema import Section, load_yaml

__all__ = [
    "GOAL_IMAGE",
    "HASH_VERSION",
    "INSTRUCTION",
    "NEVER_TOO_OLD_S",
    "ROTATION_WIDTH",
    "ActionSpec",
    "AlignmentSpec",
    "CameraInfoSpec",
    "DepthSpec",
    "FeatureSpec",
    "GripperSpec",
    "ImageSpec",
    "InputSpec",
    "JointLimit",
    "LimitsSpec",
    "MapSpec",
    "MeasuredPart",
    "MeasuredSpec",
    "MeasurementSpec",
    "PointsSpec",
    "QosSpec",
    "RecordSpec",
    "RobotContract",
    "Section",
    "SinkSpec",
    "TransformSpec",
    "WindowSpec",
    "contract_differences",
    "contract_text",
    "is_hash_of",
    "load_contract",
    "load_yaml",
    "measured_sources",
    "parse_contract",
]
