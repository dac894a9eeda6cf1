"""A whole contract, and what datasets and policies see of it: its features and its hash."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

from vla_ros.contract.hashing import contract_hash, contract_hash_v1
from vla_ros.contract.schema.action import ActionSpec
from vla_ros.contract.schema.inputs import InputSpec
from vla_ros.contract.schema.vocabulary import (
    FASTEST,
    FPS,
    GOAL,
    GOAL_IMAGE,
    INSTRUCTION,
    LATE,
    NAMED_ELSEWHERE,
    REACTION,
    named,
)
from vla_ros.data_types import ContractError, nearest_name
from vla_ros.data_types.foreign_text import plain
from vla_ros.schema import About


@dataclass(frozen=True)
class FeatureSpec:
    """One feature as datasets, statistics and policies see it.

    Attributes:
        key: Feature key.
        kind: What it is, which decides how it is stored and normalised.
        shape: At one tick, images as [height, width, 3].
        dtype: numpy name.
        names: Names of a vector's numbers, of a window's fields or of a point's fields.
        camera_info: Calibration of the camera for the image of this shape, by the fields of sensor_msgs/CameraInfo;
            None where it is not known. Two features are the same whatever it is.
    """

    key: str
    kind: Literal["image", "vector", "window", "points", "action"]
    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...]
    camera_info: Mapping[str, Any] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class RobotContract:
    """Everything that vla_ros knows about one robot."""

    robot_type: Annotated[str, named("Name of the robot, stored in datasets and checkpoints.")]
    fps: Annotated[int, FPS]
    control_rate_hz: Annotated[
        int,
        About(
            "Commands per second; a multiple of `fps`.",
            "1/s",
            at_least=1,
            at_most=FASTEST,
            unhashed=REACTION,
            default="`fps`",
        ),
    ]
    base_frame: Annotated[
        str,
        named("frame_id of the robot's base (REP-105).", unhashed=NAMED_ELSEWHERE, default="`base_link`"),
    ]
    max_wait_s: Annotated[
        float,
        About(
            "How long after a tick a late sample is waited for before the observation is assembled without it.",
            "s",
            at_least=0,
            unhashed=LATE,
            default="1 / `fps`",
        ),
    ]
    inputs: Annotated[
        tuple[InputSpec, ...],
        About("The streams that datasets store, frame by frame, and latched ones; at least one.", default="required"),
    ]
    action: Annotated[ActionSpec, About("The action.")]
    goals: Annotated[
        tuple[InputSpec, ...],
        About(
            "Latched inputs that say what to do, the instruction first. Datasets store the instruction as the "
            "episode's task, and no images of goals: training takes the last frame of an episode for them.",
            unhashed=GOAL,
            in_file=False,
        ),
    ]
    tool_frame: Annotated[
        str | None,
        named(
            "frame_id of the end effector; needed for motions that are given in it.",
            unhashed=NAMED_ELSEWHERE,
            default="none",
        ),
    ] = None
    source: Annotated[str, About("File it was read from, for messages.", unhashed="a file name", in_file=False)] = (
        field(default="", compare=False)
    )

    @property
    def commanded(self) -> "RobotContract":
        """The contract of what the robot is told command by command: of a trajectory, the twist that follows it.

        The filter bounds these commands and the sinks that take single commands carry them; others carry the chunk.
        """
        action = self.action
        if action.representation != "trajectory":
            return self
        twist = replace(
            action,
            names=("linear_x", "angular_z"),
            units=("m/s", "rad/s"),
            representation="planar_twist",
            frame=self.base_frame,
        )
        return replace(self, action=twist)

    @property
    def features(self) -> dict[str, FeatureSpec]:
        """Feature key → feature, observations in the order of the contract, the action last."""
        features: dict[str, FeatureSpec] = {}
        for spec in self.inputs:
            known = features.get(spec.key)
            if known is None:
                features[spec.key] = _input_feature(spec)
            else:
                names = known.names + spec.names
                features[spec.key] = FeatureSpec(spec.key, "vector", (len(names),), "float32", names)
        action = self.action
        features[action.key] = FeatureSpec(action.key, "action", (len(action.names),), "float32", action.names)
        return features

    @property
    def policy_features(self) -> dict[str, FeatureSpec]:
        """As `features`, with the images of goals last; no dataset stores those."""
        goals = {spec.key: _input_feature(spec) for spec in self.goals if spec.image is not None}
        return {**self.features, **goals}

    @property
    def streams(self) -> tuple[InputSpec, ...]:
        """Everything that is subscribed to."""
        return (*self.inputs, *self.goals)

    @property
    def instruction(self) -> InputSpec:
        """The instruction's input."""
        return next(spec for spec in self.goals if spec.key == INSTRUCTION)

    @property
    def goal(self) -> InputSpec | None:
        """The input of images of the goal, None where the robot is given none."""
        return next((spec for spec in self.goals if spec.key == GOAL_IMAGE), None)

    def feature(self, key: str) -> FeatureSpec:
        """Return one feature, of those that a policy may have.

        Raises:
            ContractError: The robot has none of this key; names the nearest.
        """
        features = self.policy_features
        if key not in features:
            raise ContractError(
                f"{self.source or self.robot_type}: no input or action has the key '{plain(key)}'; "
                f"keys are {', '.join(features)}.{nearest_name(key, features)}"
            )
        return features[key]

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over everything that gives the numbers their meaning; see `contract.hashing`."""
        return contract_hash(self)

    @property
    def hash_v1(self) -> str:
        """The hash that versions of vla_ros wrote that left some of it out."""
        return contract_hash_v1(self)


def _input_feature(spec: InputSpec) -> FeatureSpec:
    if spec.image is not None:
        return FeatureSpec(spec.key, "image", spec.shape, "uint8", ("height", "width", "channels"))
    if spec.raster is not None:  # points of one number: NaN is "none" for both, and no policy takes it for colours
        return FeatureSpec(spec.key, "points", spec.shape, "float32", ("depth" if spec.depth else "value",))
    if spec.points is not None:
        return FeatureSpec(spec.key, "points", spec.shape, "float32", spec.points.fields)
    kind: Literal["window", "vector"] = "window" if spec.window is not None else "vector"
    return FeatureSpec(spec.key, kind, spec.shape, "float32", spec.names)
