"""Words and declarations that the sections of a contract share. No ROS."""

from typing import Annotated, Literal

from vla_ros.schema import About

Alignment = Literal["hold", "nearest", "interpolate", "latch"]
Timeline = Literal["header", "receive"]
OnMissing = Literal["hold", "stop", "abort"]
OnFrozen = Literal["warn", "stop"]
OnNewGoal = Literal["keep", "zero"]
Representation = Literal["displacement", "twist", "pose", "joint_position", "planar_twist", "trajectory"]
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


def named(words: str, **more: str) -> About:
    """Declare a name: anything but nothing."""
    return About(words, pattern=NOT_EMPTY, mismatch="must not be empty", **more)  # type: ignore[arg-type]  # strings


def joint_names(words: str, default: str = "") -> About:
    """Declare names that are a mapping where the robot calls its joints otherwise."""
    return About(words, default=default, kind="list or mapping of strings", json_types=("array", "object"))


RosNames = Annotated[
    tuple[str, ...],
    About(
        "Of joints: what the messages call `names`; empty where they are called so.", unhashed=TRANSPORT, in_file=False
    ),
]
"""What the messages of one topic call the joints."""
