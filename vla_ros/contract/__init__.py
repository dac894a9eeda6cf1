"""The robot's contract: topic ↔ feature key, order, units, rates, action space. No rclpy, no torch.

A contract is written once as YAML under ``config/robots/`` and read by everything else.
"""

from vla_ros.contract.parse import load_contract, parse_contract
from vla_ros.contract.reader import Section, load_yaml
from vla_ros.contract.schema import (
    GOAL_IMAGE,
    ROTATION_WIDTH,
    ActionSpec,
    AlignmentSpec,
    FeatureSpec,
    GoalSpec,
    GripperSpec,
    ImageSpec,
    InputSpec,
    InstructionSpec,
    LimitsSpec,
    PointsSpec,
    QosSpec,
    RecordSpec,
    RobotContract,
    SinkSpec,
    WindowSpec,
)

__all__ = [
    "GOAL_IMAGE",
    "ROTATION_WIDTH",
    "ActionSpec",
    "AlignmentSpec",
    "FeatureSpec",
    "GoalSpec",
    "GripperSpec",
    "ImageSpec",
    "InputSpec",
    "InstructionSpec",
    "LimitsSpec",
    "PointsSpec",
    "QosSpec",
    "RecordSpec",
    "RobotContract",
    "Section",
    "SinkSpec",
    "WindowSpec",
    "load_contract",
    "load_yaml",
    "parse_contract",
]
