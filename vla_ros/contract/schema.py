"""What a robot's contract says, as immutable values: every field once, with what is declared about it. No ROS.

A contract names every input and action of one robot once: topic and type on the ROS side, feature key,
selection and form on the policy's side. The nodes, the recorder, the converter and the replay read the
same object, so they cannot disagree. A field without ``unhashed`` counts in the contract's hash.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vla_ros.contract.hashing import contract_hash, contract_hash_v1
from vla_ros.contract.limits import LimitsSpec
from vla_ros.contract.types import ACTION_SOURCES, INPUT_TYPES, SINK_REPRESENTATIONS
from vla_ros.data_types import ContractError, nearest_name
from vla_ros.data_types.foreign_text import plain
from vla_ros.schema import About

Alignment = Literal["hold", "nearest", "interpolate", "latch"]
Timeline = Literal["header", "receive"]
OnMissing = Literal["hold", "stop", "abort"]
OnNewGoal = Literal["keep", "zero"]
Representation = Literal["displacement", "twist", "pose", "joint_position", "planar_twist"]
Rotation = Literal["none", "rotation_vector", "quaternion", "rot6d"]
MeasuredRotation = Literal["rotation_vector", "quaternion", "rot6d"]

GOAL_IMAGE = "goal.image"
"""Feature key of an image of the goal."""

INSTRUCTION = "task"
"""Key of the instruction; datasets keep it as their task."""

NEVER_TOO_OLD_S = 1e9
"""Age limit, in s, of what holds until it is replaced."""

ROTATION_WIDTH: dict[str, int] = {"none": 0, "rotation_vector": 3, "quaternion": 4, "rot6d": 6}
"""Numbers that a rotation takes in an action vector; quaternions are x, y, z, w as in geometry_msgs."""

NOT_EMPTY = r"\S"
FULL_TOPIC = r"^(/[A-Za-z_][A-Za-z0-9_]*)+$"
ROS_TYPE = "[ROS type](message_types.md)"
FASTEST = 10_000  # per second; ticks are then 100 µs apart
FPS = About("Ticks per second of observations, dataset rows and action steps.", "1/s", at_least=1, at_most=FASTEST)
LARGEST_SIDE = 32_768  # pixels

# Why a field does not count in the hash
TRANSPORT = "how it travels"
REACTION = "what the robot does, not what its numbers mean"
LATE = "when a value is missing, not what it means"
NAMED_ELSEWHERE = "counts where a motion is given in it"
GOAL = "datasets store no goals; a checkpoint compares the camera itself"


def topic_name(words: str) -> About:
    """Declare a topic: a full name, because bags store full names."""
    return About(
        words,
        pattern=FULL_TOPIC,
        mismatch="'{}' is not a full topic name like /arm/joint_states (letters, digits and _ between '/')",
        unhashed=TRANSPORT,
    )


def _named(words: str, **more: str) -> About:
    return About(words, pattern=NOT_EMPTY, mismatch="must not be empty", **more)  # type: ignore[arg-type]  # strings


@dataclass(frozen=True)
class QosSpec:
    """Quality of service of one topic, in the terms of `rclpy.qos`."""

    reliability: Annotated[
        Literal["reliable", "best_effort"],
        About(
            "A best-effort reader hears every publisher; a reliable one only reliable publishers.",
            default="best_effort; commands and goals reliable",
        ),
    ]
    durability: Annotated[
        Literal["volatile", "transient_local"],
        About(
            "`transient_local` delivers what was published before the subscription.",
            default="volatile; goals transient_local",
        ),
    ] = "volatile"
    depth: Annotated[int, About("Messages kept.", at_least=1, at_most=1_000_000, default="5; commands and goals 1")] = 1


SENSOR_QOS = QosSpec("best_effort", "volatile", 5)
COMMAND_QOS = QosSpec("reliable", "volatile", 1)  # a backlog of old velocities would be executed late
LATCHED_QOS = QosSpec("reliable", "transient_local", 1)  # what holds until it is replaced


@dataclass(frozen=True)
class AlignmentSpec:
    """How stamped samples become the value at a tick."""

    method: Annotated[
        Alignment,
        About(
            "`hold` the newest sample that is not after the tick, the `nearest` one, or `interpolate` linearly between "
            "the two around it (numbers only). `latch`: the newest received holds until it is replaced, as goals do.",
            default="`hold`; of a transform `interpolate`",
        ),
    ] = "hold"
    timeline: Annotated[
        Timeline,
        About(
            "A sample's time: header stamp, or when it was received. Headerless types need `receive`.",
            default="`header`; of `latch` `receive`",
        ),
    ] = "header"


@dataclass(frozen=True)
class ImageSpec:
    """Form in which an image reaches the policy: uint8 [height, width, 3], RGB."""

    height: Annotated[int, About("After crop and resize.", unit="pixels", at_least=1, at_most=LARGEST_SIDE)]
    width: Annotated[int, About("After crop and resize.", unit="pixels", at_least=1, at_most=LARGEST_SIDE)]
    crop: Annotated[
        tuple[int, int, int, int] | None,
        About("(top, left, height, width) in pixels of the incoming image; all of it by default.", unit="pixels"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class DepthRange:
    """Which distances of a depth image count as measured, and what its numbers are."""

    min: Annotated[float, About("Nearest distance that counts as measured.", unit="m", at_least=0)]
    max: Annotated[float, About("Farthest distance that does.", unit="m", above=0)]
    unit: Annotated[
        float,
        About(
            "What one unit of an integer image stands for; images of floats are in metres (REP-118).", unit="m", above=0
        ),
    ] = 0.001


@dataclass(frozen=True)
class DepthSpec(ImageSpec, DepthRange):
    """Form of a depth image: float32 [height * width, 1], row by row, m; NaN where nothing was measured."""


@dataclass(frozen=True)
class PointsSpec:
    """Form of a point cloud: float32 [count, len(fields)]; missing points are rows of NaN."""

    count: Annotated[
        int,
        About(
            "Points that the policy gets: more are thinned out evenly, fewer followed by rows of NaN.",
            at_least=1,
            at_most=10_000_000,
        ),
    ]
    fields: Annotated[
        tuple[str, ...],
        About(
            "Fields of a point. Of a LaserScan: x, y, z, range, angle, intensity.", default="x, y, z; of a scan x, y"
        ),
    ] = ("x", "y", "z")


@dataclass(frozen=True)
class TransformSpec:
    """Which transform of a TF tree."""

    parent: Annotated[str, _named("The frame in which the child is: tf2's target frame.")]
    child: Annotated[str, _named("The frame that is looked for.")]
    static_topic: Annotated[str, topic_name("Where the transforms that never change are published.")] = "/tf_static"


@dataclass(frozen=True)
class WindowSpec:
    """A window of samples that ends at the tick: float32 [samples, fields].

    Sample k of K is the stream's value, linearly interpolated, at ``tick - (K - 1 - k) * period_s``.
    """

    samples: Annotated[int, About("Samples in the window, the last one at the tick.", at_least=1, at_most=100_000)]
    period_s: Annotated[float, About("Time between them; each is interpolated.", unit="s", above=0)]


@dataclass(frozen=True)
class InputSpec:
    """One subscribed stream. Streams of the same key are joined to one vector, in the order of the contract."""

    key: Annotated[
        str,
        About(
            "Feature key, `observation.…`, `goal.…` or `task`; cameras are `observation.images.<name>` as in LeRobot, "
            "depth `observation.images.<name>_depth`; other sensors `observation.points.<lidar>`, `.scan.<lidar>`, "
            "`.imu.<imu>`, `.wrench.<name>`, `.radar.<name>`, `.effort`."
        ),
    ]
    topic: Annotated[str, topic_name("ROS topic, full name.")]
    type: Annotated[
        str,
        About(
            "Decides the form below that is needed and the decoder.",
            choices=lambda: list(INPUT_TYPES),
            kind=ROS_TYPE,
        ),
    ]
    qos: Annotated[QosSpec, About("Quality of service of the subscription.", unhashed=TRANSPORT, default="see there")]
    alignment: Annotated[AlignmentSpec, About("How samples become the value at a tick.", default="see there")]
    max_age_s: Annotated[
        float,
        About(
            "Older than this at a tick the value counts as missing. Not of a latched input.",
            unit="s",
            above=0,
            unhashed=LATE,
        ),
    ]
    names: Annotated[
        tuple[str, ...],
        About(
            "What those numbers are called in the dataset; of a MultiArray, one name per element.", default="`fields`"
        ),
    ] = ()
    fields: Annotated[
        tuple[str, ...],
        About(
            "Of types with named numbers: which of them, as dotted paths. All of the type's own by default.",
            default="by type",
        ),
    ] = ()
    image: Annotated[ImageSpec | None, About("Of an image, and only there.", default="required")] = None
    points: Annotated[PointsSpec | None, About("Of a point cloud or scan, and only there.", default="required")] = None
    window: Annotated[
        WindowSpec | None,
        About(
            "Of an IMU, and only there: a policy sees the samples up to the tick, not the last one.", default="required"
        ),
    ] = None
    required: Annotated[
        bool,
        About(
            "Whether every policy needs it. What a policy takes as input is required in any case.", unhashed=REACTION
        ),
    ] = True
    on_missing: Annotated[
        OnMissing,
        About(
            "What the robot does while it is missing: `hold` its pose by commands of zero motion, `stop` commanding "
            "after one command of zero motion, or `abort`: the node deactivates.",
            unhashed=REACTION,
        ),
    ] = "stop"
    frame: Annotated[
        str | None,
        _named("Expected frame_id (REP-105); another one in a message is an error. Left out, it is not checked."),
    ] = None
    begins_episode: Annotated[
        bool,
        About(
            "Of a latched input: whether a new value clears history and policy state.",
            unhashed=REACTION,
            default="`true`",
        ),
    ] = False
    on_new_goal: Annotated[
        OnNewGoal,
        About(
            "Of a latched input that begins an episode: `keep` the running action chunk until the first one decided "
            "on the new value, or `zero` motion at once.",
            unhashed=REACTION,
            default="`keep`; of images `zero`",
        ),
    ] = "keep"
    camera: Annotated[
        str,
        About(
            "Of a latched image: key of the camera that it is an image of, whose crop and size it gets.", unhashed=GOAL
        ),
    ] = ""
    default: Annotated[
        str,
        About("Of `task`, the instruction: what holds until the first one is received.", unhashed=GOAL),
    ] = ""
    ros_names: Annotated[
        tuple[str, ...],
        About(
            "Of a JointState: what the messages call the joints; empty where they are called as in `names`.",
            unhashed=TRANSPORT,
            in_file=False,
        ),
    ] = ()
    transform: Annotated[
        TransformSpec | None,
        About("Of a TFMessage, and only there: where a frame is in another at the tick.", default="required"),
    ] = None
    depth: Annotated[DepthSpec | None, About("Form of a depth image, which then has no `image`.", in_file=False)] = None

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
    """One published form of the action."""

    topic: Annotated[str, topic_name("ROS topic, full name; each topic once.")]
    type: Annotated[
        str,
        About(
            "Decides the encoder; must be able to carry the representation.",
            choices=lambda: list(SINK_REPRESENTATIONS),
            kind=ROS_TYPE,
        ),
    ]
    qos: Annotated[QosSpec, About("Quality of service of the publisher.", default="see there")]
    names: Annotated[
        tuple[str, ...],
        About(
            "Of an array, a number, a JointState or JointTrajectory: which numbers it carries, all by default; of "
            "joints a mapping where the robot calls them otherwise.",
            kind="list or mapping of strings",
            json_types=("array", "object"),
        ),
    ] = ()
    units: Annotated[
        Literal["si", "unitless"],
        About("Of a Twist or TwistStamped: m/s and rad/s, or divided by the scales and clipped to ±1."),
    ] = "si"
    linear_scale: Annotated[
        float, About("Of a unitless twist, and required there: speed at 1.", unit="m/s", above=0, default="none")
    ] = 1.0
    angular_scale: Annotated[
        float, About("Of a unitless twist, and required there: speed at 1.", unit="rad/s", above=0, default="none")
    ] = 1.0
    ros_names: Annotated[
        tuple[str, ...],
        About(
            "Of joints: what the messages call `names`; empty where they are called so.",
            unhashed=TRANSPORT,
            in_file=False,
        ),
    ] = ()
    open: Annotated[
        float | None,
        About(
            "Of a gripper's action: its position where `action.gripper` is open.", unit="m or rad", unhashed=TRANSPORT
        ),
    ] = None
    closed: Annotated[
        float | None,
        About(
            "The same where it is closed. Without both ends the action's number is sent as it is.",
            unit="m or rad",
            unhashed=TRANSPORT,
        ),
    ] = None
    max_effort: Annotated[
        float,
        About("Of a gripper's action; 0 for the server's own.", unit="N or Nm", at_least=0, unhashed=TRANSPORT),
    ] = 0.0

    @property
    def is_action(self) -> bool:
        """Whether it is an action server and not a topic."""
        return "/action/" in self.type


@dataclass(frozen=True)
class GripperSpec:
    """Which action number is the gripper, and what its ends mean."""

    name: Annotated[str, About("The last name of the action.", kind="one of `names`")]
    open: Annotated[float, About("Its value when open.")]
    closed: Annotated[float, About("Its value when closed.")]


@dataclass(frozen=True)
class RecordSpec:
    """Where the recorder and the converter read the action, or a part of the action, that a demonstrator took."""

    topic: Annotated[str, topic_name("ROS topic, full name.")]
    type: Annotated[
        str,
        About(
            "Must be able to carry the representation. One that carries no gripper needs a part beside it for it.",
            choices=lambda: list(ACTION_SOURCES),
            kind=ROS_TYPE,
        ),
    ]
    qos: Annotated[QosSpec, About("Quality of service of the subscription.", unhashed=TRANSPORT, default="see there")]
    alignment: Annotated[AlignmentSpec, About("How commands become the action of a tick.", default="see there")]
    max_age_s: Annotated[
        float,
        About("Older than this at a tick there was no action.", unit="s", above=0, unhashed=LATE),
    ]
    names: Annotated[
        tuple[str, ...],
        About(
            "Of a JointState, an array or a number: which numbers of the action it gives, all by default where it is "
            "the only topic. Of a JointState a mapping where its messages call the joints otherwise.",
            kind="list or mapping of strings",
            json_types=("array", "object"),
        ),
    ] = ()
    ros_names: Annotated[
        tuple[str, ...],
        About(
            "Of a JointState: what its messages call `names`; empty where they are called so.",
            unhashed=TRANSPORT,
            in_file=False,
        ),
    ] = ()


@dataclass(frozen=True)
class MeasuredPart:
    """The numbers of one vector feature that hold a part of the robot's measured state; no key where nothing is named.

    Its names are x, y, z; the orientation's; or one per joint of the action.
    """

    key: Annotated[str, About("Feature key, of a vector.")] = ""
    names: Annotated[tuple[str, ...], About("Its numbers, in order: x, y, z; the orientation's; or the joints'.")] = ()
    rotation: Annotated[
        MeasuredRotation, About("Of an orientation: how it is written; quaternions are x, y, z, w.")
    ] = "quaternion"


@dataclass(frozen=True)
class MeasuredSpec:
    """Where the contract says that the robot's state is measured; see `measured_sources` for what it leaves out."""

    position: Annotated[
        MeasuredPart,
        About(
            "Of the end effector in the base frame; by default the one PoseStamped or Odometry input that holds a "
            "position.",
            default="derived",
        ),
    ] = field(default_factory=MeasuredPart)
    orientation: Annotated[
        MeasuredPart,
        About("Of the end effector in the base frame; by default of the same input.", default="derived"),
    ] = field(default_factory=MeasuredPart)
    joints: Annotated[
        MeasuredPart,
        About(
            "Of joint positions; by default the JointState inputs that hold the positions of the action's joints. "
            "The gripper's may be left out.",
            default="derived",
        ),
    ] = field(default_factory=MeasuredPart)


@dataclass(frozen=True)
class ActionSpec:
    """The action: what a policy predicts, what is recorded, where it is published."""

    key: Annotated[str, About("Feature key of the action.", choices=lambda: ("action",), default="`action`")]
    names: Annotated[
        tuple[str, ...],
        About("Names of the numbers, [A]: translation x, y, z; the rotation's; the gripper last. Or joint names."),
    ]
    units: Annotated[tuple[str, ...], About("Unit of each number, for people and for the dataset.")]
    representation: Annotated[
        Representation,
        About(
            "`displacement` over one period of `fps`, `twist` (m/s, rad/s), absolute `pose`, `joint_position` "
            "(rad; names are joint names), or `planar_twist` of a mobile base: linear x, angular z, or linear x, y, "
            "angular z (m/s, rad/s)."
        ),
    ]
    rotation: Annotated[
        Rotation,
        About(
            "How the rotation is written: 0, 3, 4 (x, y, z, w) or 6 numbers after the translation.", default="`none`"
        ),
    ]
    frame: Annotated[
        str,
        _named(
            "frame_id of the motion (REP-105): `base_frame` or `tool_frame`. A workspace is held in the base frame in "
            "any case; motions in the tool frame are turned by the measured orientation.",
            default="`base_frame`",
        ),
    ]
    record: Annotated[
        RecordSpec,
        About(
            "Where the recorder and the converter read the action: one topic, or a list of topics that each give some "
            "of its numbers, as a twist and the gripper beside it.",
            kind="mapping, or list of mappings",
            or_list=True,
        ),
    ]
    sinks: Annotated[
        tuple[SinkSpec, ...], About("Where it is published, at least one.", unhashed=TRANSPORT, default="required")
    ]
    limits: Annotated[
        LimitsSpec,
        About(
            "Bounds; none where a field is left out. Of several for the same, the tightest holds.", unhashed=REACTION
        ),
    ] = field(default_factory=LimitsSpec)
    gripper: Annotated[GripperSpec | None, About("Which number is the gripper; left out when there is none.")] = None
    past_end: Annotated[
        Literal["hold", "zero", "stop"],
        About(
            "When a chunk is used up: `hold` its last step for `max_hold_s` and then stop, `zero` (command no "
            "motion), or `stop` commanding.",
            unhashed=REACTION,
        ),
    ] = "zero"
    max_hold_s: Annotated[
        float, About("Of `past_end: hold`, and only there.", unit="s", at_least=0, unhashed=REACTION)
    ] = 0.1
    measured: Annotated[
        MeasuredSpec,
        About(
            "Where the state is measured that the action changes; named, or derived where only one input can be meant.",
            unhashed=REACTION,
        ),
    ] = field(default_factory=MeasuredSpec)
    also_recorded: Annotated[
        tuple[RecordSpec, ...],
        About("Further topics of the record, where no single one holds the whole action.", in_file=False),
    ] = ()
    unsent: Annotated[
        tuple[str, ...],
        About("Numbers that no sink carries; every other one must be carried by one.", unhashed=TRANSPORT),
    ] = ()

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
    """Everything that vla_ros knows about one robot."""

    robot_type: Annotated[str, _named("Name of the robot, stored in datasets and checkpoints.")]
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
        _named("frame_id of the robot's base (REP-105).", unhashed=NAMED_ELSEWHERE, default="`base_link`"),
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
        _named(
            "frame_id of the end effector; needed for motions that are given in it.",
            unhashed=NAMED_ELSEWHERE,
            default="none",
        ),
    ] = None
    source: Annotated[str, About("File it was read from, for messages.", unhashed="a file name", in_file=False)] = (
        field(default="", compare=False)
    )

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
    if spec.depth is not None:  # points of one number: NaN is "none" for both, and no policy takes it for colours
        return FeatureSpec(spec.key, "points", spec.shape, "float32", ("depth",))
    if spec.points is not None:
        return FeatureSpec(spec.key, "points", spec.shape, "float32", spec.points.fields)
    kind: Literal["window", "vector"] = "window" if spec.window is not None else "vector"
    return FeatureSpec(spec.key, kind, spec.shape, "float32", spec.names)
