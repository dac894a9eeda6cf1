"""What a robot's contract says, as immutable values: every field once, with what is declared about it. No ROS.

A contract names every input and action of one robot once: topic and type on the ROS side, feature key,
selection and form on the policy's side. The nodes, the recorder, the converter and the replay read the
same object, so they cannot disagree. A field without ``unhashed`` counts in the contract's hash.

A file a section: ``inputs``, ``action`` with ``action_topics`` (sinks and record) and ``limits``, ``robot`` around
them; ``topics`` and ``vocabulary`` hold what they share, ``file_forms`` what the YAML has in another form.
"""

from vla_ros.contract.schema.action import ActionSpec, GripperSpec, MeasuredPart, MeasuredSpec
from vla_ros.contract.schema.action_topics import RecordSpec, SinkSpec
from vla_ros.contract.schema.inputs import (
    CameraInfoSpec,
    DepthRange,
    DepthSpec,
    ImageSpec,
    InputSpec,
    MapRange,
    MapSpec,
    PointsSpec,
    TransformSpec,
    WindowSpec,
)
from vla_ros.contract.schema.limits import JointLimit, LimitsSpec
from vla_ros.contract.schema.robot import FeatureSpec, RobotContract
from vla_ros.contract.schema.topics import COMMAND_QOS, LATCHED_QOS, SENSOR_QOS, AlignmentSpec, QosSpec
from vla_ros.contract.schema.vocabulary import (
    FPS,
    GOAL_IMAGE,
    INSTRUCTION,
    NEVER_TOO_OLD_S,
    ROTATION_WIDTH,
    Alignment,
    MeasuredRotation,
    Representation,
    Rotation,
)

__all__ = [
    "COMMAND_QOS",
    "FPS",
    "GOAL_IMAGE",
    "INSTRUCTION",
    "LATCHED_QOS",
    "NEVER_TOO_OLD_S",
    "ROTATION_WIDTH",
    "SENSOR_QOS",
    "ActionSpec",
    "Alignment",
    "AlignmentSpec",
    "CameraInfoSpec",
    "DepthRange",
    "DepthSpec",
    "FeatureSpec",
    "GripperSpec",
    "ImageSpec",
    "InputSpec",
    "JointLimit",
    "LimitsSpec",
    "MapRange",
    "MapSpec",
    "MeasuredPart",
    "MeasuredRotation",
    "MeasuredSpec",
    "PointsSpec",
    "QosSpec",
    "RecordSpec",
    "Representation",
    "RobotContract",
    "Rotation",
    "SinkSpec",
    "TransformSpec",
    "WindowSpec",
]
