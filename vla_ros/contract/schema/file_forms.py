"""What a contract's file has beside, or in place of, the fields of the objects that it becomes."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from vla_ros.contract.schema.inputs import (
    CameraInfoSpec,
    DepthRange,
    DepthSpec,
    ImageSpec,
    InputSpec,
    MapRange,
    MapSpec,
)
from vla_ros.contract.schema.limits import LimitsSpec
from vla_ros.contract.schema.robot import RobotContract
from vla_ros.contract.schema.topics import LATCHED_QOS, QosSpec
from vla_ros.contract.schema.vocabulary import GOAL, REACTION, TRANSPORT, OnNewGoal, joint_names, topic_name
from vla_ros.schema import About, file_form_of

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


@file_form_of(ImageSpec)
@dataclass(frozen=True)
class ImageFile(ImageSpec):
    """The section ``image`` of an input: of colours, or of distances."""

    depth: Annotated[
        DepthRange | None,
        About(
            "Given, the image is one of distances, 16UC1, 32FC1 or compressedDepth: the policy gets metres, NaN where "
            "nothing was measured. Resizing takes the nearest pixel. The key ends in `_depth`."
        ),
    ] = None
    map: Annotated[
        MapRange | None,
        About(
            "Given, the image is one of numbers, as a radar's range-Doppler map: 32FC1, 64FC1, 16UC1 or 8UC1, taken as "
            "they are. Of the pixels that become one, the largest counts, so that no target is lost. The key is "
            "`observation.radar.<radar>`."
        ),
    ] = None
    info: Annotated[
        CameraInfoSpec | None,
        About(
            "Calibration of the camera. It goes into the dataset, in `info` of the image's feature, as that of the "
            "image that is stored there.",
            unhashed="a camera calibrated anew is no other input",
        ),
    ] = None


@file_form_of(InputSpec)
@dataclass(frozen=True)
class InputFile(InputSpec):
    """One entry of ``inputs``."""

    image: Annotated[ImageFile | None, About("Of an image, and only there.", default="required")] = None
    joints: Annotated[
        tuple[str, ...],
        joint_names(
            "Of a JointState: the joints, in the order in which the policy gets them, or a mapping from the names that "
            "the policy knows to those in the messages. Several drivers may share the topic: a message updates the "
            "joints that it carries, and a joint that none carried within `max_age_s` is missing.",
            default="required",
        ),
    ] = ()
    field: Annotated[
        Literal["position", "velocity", "effort"], About("Of a JointState: which of its arrays; it is its `fields`.")
    ] = "position"


@file_form_of(LimitsSpec)
@dataclass(frozen=True)
class LimitsFile(LimitsSpec):
    """The section ``action.limits``."""

    urdf: Annotated[
        str | None,
        About(
            "Of joint positions: a URDF, relative to this file; its joints' ranges and velocities count.",
            kind="file name",
        ),
    ] = None


@dataclass(frozen=True)
class InstructionFile:
    """The section ``instruction``, short for a latched input."""

    topic: Annotated[str, topic_name("ROS topic (std_msgs/msg/String, transient local).")] = "/instruction"
    default: Annotated[str, About("What holds until the first instruction is received.", unhashed=GOAL)] = ""
    on_new_goal: Annotated[OnNewGoal, About("As of a latched input.", unhashed=REACTION)] = "keep"


@dataclass(frozen=True)
class GoalFile:
    """The section ``goal``, short for a latched input."""

    camera: Annotated[
        str,
        About(
            "Key of the camera that goals are pictures of: they get its crop and size, and training takes its last "
            "frame of an episode for the goal. A checkpoint that sees `goal.image` fits only robots with the same one.",
            unhashed=GOAL,
        ),
    ]
    topic: Annotated[
        str, topic_name("ROS topic; the newest image holds until the next, which begins a new episode.")
    ] = "/goal_image"
    type: Annotated[str, About("ROS type.", choices=lambda: IMAGE_TYPES, unhashed=TRANSPORT)] = IMAGE_TYPES[0]
    qos: Annotated[QosSpec, About("Quality of service of the subscription.", unhashed=TRANSPORT)] = LATCHED_QOS
    on_new_goal: Annotated[OnNewGoal, About("As of a latched input.", unhashed=REACTION)] = "zero"


@file_form_of(RobotContract)
@dataclass(frozen=True)
class ContractFile(RobotContract):
    """A contract's file."""

    instruction_file: Annotated[
        InstructionFile,
        About(
            "Where instructions come from: short for a latched input `task` of type std_msgs/msg/String.",
            place="instruction",
            unhashed=GOAL,
        ),
    ] = InstructionFile()
    goal_file: Annotated[
        GoalFile | None,
        About(
            "Where images of goals come from: short for a latched input `goal.image`. Left out, no policy sees one.",
            place="goal",
            unhashed=GOAL,
        ),
    ] = None


def as_input(spec: InputFile, **changes: Any) -> InputSpec:
    """Return the input that an entry of the file describes."""
    if spec.image is not None:
        changes = {**changes, **_image_forms(spec.image)}
    return InputSpec(**{name: changes.get(name, getattr(spec, name)) for name in InputSpec.__dataclass_fields__})


def _image_forms(spec: ImageFile) -> dict[str, Any]:
    """Return the form of an image of colours, of distances or of numbers, and its camera's calibration."""
    size, depth, numbers = (spec.height, spec.width, spec.crop), spec.depth, spec.map
    return {
        "image": ImageSpec(*size) if depth is None and numbers is None else None,
        "depth": None if depth is None else DepthSpec(*size, min=depth.min, max=depth.max, unit=depth.unit),
        "map": None if numbers is None else MapSpec(*size, min=numbers.min, max=numbers.max),
        "info": spec.info,
    }
