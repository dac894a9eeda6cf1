"""What a robot's contract says, as immutable values. No parsing, no ROS.

A contract names every input and action of one robot once: topic and type on the ROS side, feature key,
selection and form on the policy's side. The nodes, the recorder, the converter and the replay read the
same object, so they cannot disagree.
"""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Literal

from vla_ros.contract.limits import LimitsSpec
from vla_ros.data_types import ContractError, nearest_name

Alignment = Literal["hold", "nearest", "interpolate", "latch"]
Timeline = Literal["header", "receive"]
OnMissing = Literal["hold", "stop", "abort"]
OnNewGoal = Literal["keep", "zero"]
Representation = Literal["displacement", "twist", "pose", "joint_position", "planar_twist"]
Rotation = Literal["none", "rotation_vector", "quaternion", "rot6d"]

GOAL_IMAGE = "goal.image"
"""Feature key of an image of the goal."""

INSTRUCTION = "task"
"""Key of the instruction; datasets keep it as their task."""

NEVER_TOO_OLD_S = 1e9
"""Age limit, in s, of what holds until it is replaced."""

ROTATION_WIDTH: dict[str, int] = {"none": 0, "rotation_vector": 3, "quaternion": 4, "rot6d": 6}
"""Numbers that a rotation takes in an action vector; quaternions are x, y, z, w as in geometry_msgs."""


@dataclass(frozen=True)
class QosSpec:
    """Quality of service of one topic, in the terms of `rclpy.qos`."""

    reliability: Literal["reliable", "best_effort"]
    durability: Literal["volatile", "transient_local"] = "volatile"
    depth: int = 1


@dataclass(frozen=True)
class AlignmentSpec:
    """How stamped samples become the value at a tick.

    Attributes:
        method: ``hold`` the newest sample not after the tick, the ``nearest`` one, ``interpolate`` linearly between
            the two around it (numbers only), or ``latch``: the newest received holds until it is replaced, however old.
        timeline: Whether a sample's time is its header stamp or the moment it was received.
    """

    method: Alignment = "hold"
    timeline: Timeline = "header"


@dataclass(frozen=True)
class ImageSpec:
    """Form in which an image reaches the policy: uint8 [height, width, 3], RGB.

    Attributes:
        height: Pixels, after crop and resize.
        width: Pixels, after crop and resize.
        crop: (top, left, height, width) in pixels of the incoming image, or None for all of it.
    """

    height: int
    width: int
    crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class DepthSpec:
    """Form of a depth image: float32 [height * width, 1], row by row, m; NaN where nothing was measured.

    Attributes:
        height, width, crop: As of `ImageSpec`.
        min: Nearest distance that counts as measured, m.
        max: Farthest, m.
        unit: Metres that one unit of an integer image stands for; images of floats are in metres (REP-118).
    """

    height: int
    width: int
    crop: tuple[int, int, int, int] | None
    min: float
    max: float
    unit: float = 0.001


@dataclass(frozen=True)
class PointsSpec:
    """Form of a point cloud: float32 [count, len(fields)]; missing points are rows of NaN."""

    count: int
    fields: tuple[str, ...] = ("x", "y", "z")


@dataclass(frozen=True)
class TransformSpec:
    """Which transform of a TF tree.

    Attributes:
        parent: The frame in which the child is, as tf2's target frame.
        child: The frame that is looked for.
        static_topic: Where the transforms that never change are published.
    """

    parent: str
    child: str
    static_topic: str = "/tf_static"


@dataclass(frozen=True)
class WindowSpec:
    """A window of samples that ends at the tick: float32 [samples, fields].

    Sample k of K is the stream's value, linearly interpolated, at ``tick - (K - 1 - k) * period_s``.
    """

    samples: int
    period_s: float


@dataclass(frozen=True)
class InputSpec:
    """One subscribed stream.

    Streams of the same key are joined to one vector, in the order of the contract.

    Attributes:
        key: Feature key, e.g. ``observation.images.front``.
        topic: ROS topic.
        type: ROS type, e.g. ``sensor_msgs/msg/Image``.
        names: Names of the numbers of a vector; joint names of a JointState, element names otherwise.
        fields: Which fields of the message are read, e.g. ``position`` or ``pose.position.x``.
        image, points, window: Form for the types that need one, else None.
        max_age_s: Older than this at a tick, in s, the value counts as missing.
        required: Whether every policy needs it. What a policy takes as input is required in any case.
        on_missing: What the robot does meanwhile: ``hold`` its pose by commands of zero motion,
            ``stop`` commanding, or ``abort`` (deactivate the node).
        frame: Expected frame_id (REP-105), or None not to check it.
        begins_episode: Of a latched input: whether a new value begins an episode, clearing history and policy state.
        on_new_goal: What becomes of the running action chunk when it does: ``keep`` it until the first chunk decided on
            the new value, or ``zero`` motion at once.
        camera: Of a latched image: key of the camera that it is an image of.
        default: Of an instruction: what holds until the first one is received.
        ros_names: Of a JointState: what the messages call the joints; empty where they are called as in `names`.
        transform: Of a TFMessage: which.
        depth: Form of a depth image, which then has no `image`.
    """

    key: str
    topic: str
    type: str
    qos: QosSpec
    alignment: AlignmentSpec
    max_age_s: float
    names: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()
    image: ImageSpec | None = None
    points: PointsSpec | None = None
    window: WindowSpec | None = None
    required: bool = True
    on_missing: OnMissing = "stop"
    frame: str | None = None
    begins_episode: bool = False
    on_new_goal: OnNewGoal = "keep"
    camera: str = ""
    default: str = ""
    ros_names: tuple[str, ...] = ()
    transform: TransformSpec | None = None
    depth: DepthSpec | None = None

    @property
    def is_static(self) -> bool:
        """Whether it is the topic of those transforms of another input that never change."""
        return self.transform is not None and self.topic == self.transform.static_topic

    @property
    def is_latched(self) -> bool:
        """Whether the newest value holds until it is replaced."""
        return self.alignment.method == "latch"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of this stream's part of the feature at one tick."""
        if self.image is not None:
            return (self.image.height, self.image.width, 3)
        if self.depth is not None:
            return (self.depth.height * self.depth.width, 1)
        if self.points is not None:
            return (self.points.count, len(self.points.fields))
        if self.window is not None:
            return (self.window.samples, len(self.names))
        return (len(self.names),)


@dataclass(frozen=True)
class SinkSpec:
    """One published form of the action.

    Attributes:
        topic: ROS topic.
        type: ROS type; decides the encoder.
        names: Action names it carries, for array types; empty means all of them.
        units: Of a TwistStamped: ``si`` (m/s, rad/s) or ``unitless`` (divided by the scales, clipped to ±1).
        linear_scale: Of a unitless twist, m/s at 1.
        angular_scale: Of a unitless twist, rad/s at 1.
        ros_names: Of joints: what the messages call `names`; empty where they are called so.
        open, closed: Of a gripper's action: its positions, m or rad, at the ends of the action's gripper; None takes
            the action's number as it is.
        max_effort: Of a gripper's action: N or Nm, 0 for the server's own.
    """

    topic: str
    type: str
    qos: QosSpec
    names: tuple[str, ...] = ()
    units: Literal["si", "unitless"] = "si"
    linear_scale: float = 1.0
    angular_scale: float = 1.0
    ros_names: tuple[str, ...] = ()
    open: float | None = None
    closed: float | None = None
    max_effort: float = 0.0

    @property
    def is_action(self) -> bool:
        """Whether it is an action server and not a topic."""
        return "/action/" in self.type


@dataclass(frozen=True)
class GripperSpec:
    """Which action number is the gripper, and what its ends mean."""

    name: str
    open: float
    closed: float


@dataclass(frozen=True)
class RecordSpec:
    """Where the recorder and the converter read the action, or a part of the action, that a demonstrator took.

    Attributes:
        topic: ROS topic.
        type: ROS type.
        names: The action's names that it gives; empty for all of them.
        ros_names: Of a JointState or JointTrajectory: what its messages call them; empty where they are called so.
    """

    topic: str
    type: str
    qos: QosSpec
    alignment: AlignmentSpec
    max_age_s: float
    names: tuple[str, ...] = ()
    ros_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class MeasuredPart:
    """The numbers of one vector feature that hold a part of the robot's measured state.

    Attributes:
        key: Feature key, empty where nothing is named.
        names: Its numbers: x, y, z; the orientation's; or one per joint of the action.
        rotation: Of an orientation, how it is written.
    """

    key: str = ""
    names: tuple[str, ...] = ()
    rotation: Rotation = "quaternion"


@dataclass(frozen=True)
class MeasuredSpec:
    """Where the contract says that the robot's state is measured; see `measured_sources` for what it leaves out."""

    position: MeasuredPart = field(default_factory=MeasuredPart)
    orientation: MeasuredPart = field(default_factory=MeasuredPart)
    joints: MeasuredPart = field(default_factory=MeasuredPart)


@dataclass(frozen=True)
class ActionSpec:
    """The action: what a policy predicts, what is recorded, where it is published.

    Attributes:
        names: [A], the order is translation x, y, z; the rotation's numbers; the gripper.
        units: [A], for people and for the dataset.
        representation: ``displacement`` over one period of `RobotContract.fps`, ``twist`` (SI),
            absolute ``pose``, ``joint_position`` (rad; names are joint names), or ``planar_twist`` of a mobile base:
            linear x, angular z, or linear x, y, angular z (m/s, rad/s).
        rotation: How the rotation is written, ``none`` when the action has none.
        frame: frame_id of the motion (REP-105), the contract's base or tool frame.
        past_end: When a chunk is used up: ``hold`` its last step for `max_hold_s` and then stop,
            ``zero`` (command no motion), or ``stop`` commanding.
        measured: Where the state is measured that the action changes.
        also_recorded: Further topics, where no single one holds the whole action.
        unsent: Numbers that no sink carries, which is then no mistake.
    """

    key: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    representation: Representation
    rotation: Rotation
    frame: str
    record: RecordSpec
    sinks: tuple[SinkSpec, ...]
    limits: LimitsSpec = field(default_factory=LimitsSpec)
    gripper: GripperSpec | None = None
    past_end: Literal["hold", "zero", "stop"] = "zero"
    max_hold_s: float = 0.1
    measured: MeasuredSpec = field(default_factory=MeasuredSpec)
    also_recorded: tuple[RecordSpec, ...] = ()
    unsent: tuple[str, ...] = ()

    @property
    def records(self) -> tuple[RecordSpec, ...]:
        """Every topic that the recorded action, or a part of it, is read from."""
        return (self.record, *self.also_recorded)

    @property
    def motion_names(self) -> tuple[str, ...]:
        """The names but for a gripper's."""
        return self.names if self.gripper is None else tuple(n for n in self.names if n != self.gripper.name)

    @property
    def gripper_index(self) -> int | None:
        """Index of the gripper among the action's numbers."""
        return None if self.gripper is None else self.names.index(self.gripper.name)

    @property
    def rotation_slice(self) -> slice:
        """The rotation's numbers within a Cartesian action vector."""
        return slice(3, 3 + ROTATION_WIDTH[self.rotation])


@dataclass(frozen=True)
class FeatureSpec:
    """One feature as datasets, statistics and policies see it.

    Attributes:
        key: Feature key.
        kind: What it is, which decides how it is stored and normalised.
        shape: At one tick, images as [height, width, 3].
        dtype: numpy name.
        names: Names of a vector's numbers, of a window's fields or of a point's fields.
    """

    key: str
    kind: Literal["image", "vector", "window", "points", "action"]
    shape: tuple[int, ...]
    dtype: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class RobotContract:
    """Everything that vla_ros knows about one robot.

    Attributes:
        robot_type: Name of the robot, stored in datasets and checkpoints.
        fps: Ticks per second of observations, datasets and action steps; an integer.
        control_rate_hz: Commands per second; a multiple of `fps` or equal to it.
        base_frame: frame_id of the robot's base (REP-105).
        tool_frame: frame_id of the end effector, None where no motion is given in it.
        max_wait_s: How long after a tick a late sample is waited for before the observation is
            assembled without it, in s.
        inputs: Subscribed streams that datasets store, frame by frame.
        action: The action.
        goals: Latched inputs that say what to do, the instruction first. Datasets store the instruction as the
            episode's task, and no images of goals: training takes the last frame of an episode for them.
        source: File it was read from, for messages; no part of its identity.
    """

    robot_type: str
    fps: int
    control_rate_hz: int
    base_frame: str
    max_wait_s: float
    inputs: tuple[InputSpec, ...]
    action: ActionSpec
    goals: tuple[InputSpec, ...]
    tool_frame: str | None = None
    source: str = field(default="", compare=False)

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
                f"{self.source or self.robot_type}: no input or action has the key '{key}'; "
                f"keys are {', '.join(features)}.{nearest_name(key, features)}"
            )
        return features[key]

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits over everything that gives the numbers their meaning.

        Keys, types, selections, forms, alignment, rates and the action's representation count. Topics,
        QoS, ages, limits and sinks do not: remapping a topic or tightening a limit changes neither what a
        policy was trained on nor what its numbers mean. The goal counts only for policies that see its picture.
        """
        meaning = {
            "robot_type": self.robot_type,
            "fps": self.fps,
            "inputs": [
                [
                    s.key,
                    s.type,
                    s.names,
                    s.fields,
                    _plain(s.image),
                    _plain(s.points),
                    _plain(s.window),
                    _plain(s.alignment),
                    *([] if s.transform is None else [s.transform.parent, s.transform.child]),
                    *([] if s.depth is None else [_plain(s.depth)]),
                ]
                for s in self.inputs
            ],
            "action": [
                self.action.key,
                self.action.names,
                self.action.units,
                self.action.representation,
                self.action.rotation,
                self.action.frame,
                _plain(self.action.gripper),
            ],
        }
        text = json.dumps(meaning, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(spec: object) -> object:
    return None if spec is None else asdict(spec)  # type: ignore[call-overload]


def _input_feature(spec: InputSpec) -> FeatureSpec:
    if spec.image is not None:
        return FeatureSpec(spec.key, "image", spec.shape, "uint8", ("height", "width", "channels"))
    if spec.depth is not None:  # points of one number: NaN is "none" for both, and no policy takes it for colours
        return FeatureSpec(spec.key, "points", spec.shape, "float32", ("depth",))
    if spec.points is not None:
        return FeatureSpec(spec.key, "points", spec.shape, "float32", spec.points.fields)
    kind: Literal["window", "vector"] = "window" if spec.window is not None else "vector"
    return FeatureSpec(spec.key, kind, spec.shape, "float32", spec.names)
