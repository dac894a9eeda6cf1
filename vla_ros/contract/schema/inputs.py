"""Entries of ``inputs``: one subscribed stream each, and the forms in which its values reach the policy."""

from dataclasses import dataclass
from typing import Annotated

from vla_ros.contract.schema.topics import AlignmentSpec, Subscription
from vla_ros.contract.schema.vocabulary import (
    GOAL,
    LARGEST_SIDE,
    LATE,
    REACTION,
    ROS_TYPE,
    OnFrozen,
    OnMissing,
    OnNewGoal,
    RosNames,
    named,
    topic_name,
)
from vla_ros.contract.types import INPUT_TYPES
from vla_ros.schema import About


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


@dataclass(frozen=True, kw_only=True)
class MapRange:
    """The range of the numbers of an image that is neither of colours nor of distances."""

    min: Annotated[float, About("Smallest number that the policy gets; smaller ones become it, −∞ too.")]
    max: Annotated[float, About("Largest one.")]


@dataclass(frozen=True)
class MapSpec(ImageSpec, MapRange):
    """Form of an image of numbers: float32 [height * width, 1], row by row; NaN where there is none."""


@dataclass(frozen=True)
class CameraInfoSpec:
    """The calibration of a camera as sensor_msgs/CameraInfo has it, of the incoming image; on a topic or as numbers."""

    topic: Annotated[
        str,
        topic_name(
            "Where the driver publishes it (sensor_msgs/msg/CameraInfo): it is recorded, and read from the bags."
        ),
    ] = ""
    height: Annotated[int, About("Rows of the image that was calibrated.", unit="pixels", at_most=LARGEST_SIDE)] = 0
    width: Annotated[int, About("Its columns.", unit="pixels", at_most=LARGEST_SIDE)] = 0
    distortion_model: Annotated[str, About("As `plumb_bob`, `rational_polynomial` or `equidistant`.")] = "plumb_bob"
    d: Annotated[tuple[float, ...], About("Distortion, as many numbers as the model has.", default="none")] = ()
    k: Annotated[
        tuple[float, ...],
        About("Intrinsic matrix of the distorted image, by rows; without a topic it must be there.", default="none"),
    ] = ()
    r: Annotated[tuple[float, ...], About("Rectification, by rows: 9 numbers.", default="none")] = ()
    p: Annotated[tuple[float, ...], About("Projection, by rows: 12 numbers.", default="none")] = ()


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
            "Fields of a point, as the cloud calls them. Of a LaserScan, a RadarScan, RadarTracks or a Path: see "
            "[message types](message_types.md).",
            default="by type",
        ),
    ] = ("x", "y", "z")


@dataclass(frozen=True)
class TransformSpec:
    """Which transform of a TF tree."""

    parent: Annotated[str, named("The frame in which the child is: tf2's target frame.")]
    child: Annotated[str, named("The frame that is looked for.")]
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
    qos: Subscription
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
    max_frozen_s: Annotated[
        float,
        About(
            "The same content under fresh stamps for longer than this is what a sensor that hangs sends, and is told "
            "in status and diagnostics; 0 for not at all. Not of a latched input.",
            unit="s",
            at_least=0,
            unhashed=REACTION,
            default="1.0 of images, else 0",
        ),
    ] = 0.0
    on_frozen: Annotated[
        OnFrozen,
        About("Whether the value then counts as missing (`stop`) or is used all the same (`warn`).", unhashed=REACTION),
    ] = "warn"
    frame: Annotated[
        str | None,
        named("Expected frame_id (REP-105); another one in a message is an error. Left out, it is not checked."),
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
        RosNames,
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
    ros_names: RosNames = ()
    transform: Annotated[
        TransformSpec | None,
        About("Of a TFMessage, and only there: where a frame is in another at the tick.", default="required"),
    ] = None
    depth: Annotated[DepthSpec | None, About("Form of a depth image, which then has no `image`.", in_file=False)] = None
    map: Annotated[MapSpec | None, About("Form of an image of numbers, likewise.", in_file=False)] = None
    info: Annotated[
        CameraInfoSpec | None,
        About(
            "Calibration of an image's camera.", unhashed="a camera calibrated anew is no other input", in_file=False
        ),
    ] = None

    @property
    def raster(self) -> ImageSpec | None:
        """Form of an image of any kind: of colours, distances or numbers."""
        return self.image or self.depth or self.map

    @property
    def is_vector(self) -> bool:
        """Whether its value is a vector, which may be joined to others."""
        return not (self.raster or self.points or self.window)

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
        if self.raster is not None:
            return (self.raster.height * self.raster.width, 1)
        if self.points is not None:
            return (self.points.count, len(self.points.fields))
        if self.window is not None:
            return (self.window.samples, len(self.names))
        return (len(self.names),)
