"""The section ``action``: what a policy predicts, and where the state is measured that it changes."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from vla_ros.contract.schema.action_topics import RecordSpec, SinkSpec
from vla_ros.contract.schema.limits import LimitsSpec
from vla_ros.contract.schema.vocabulary import (
    REACTION,
    ROTATION_WIDTH,
    TRANSPORT,
    MeasuredRotation,
    Representation,
    Rotation,
    named,
)
from vla_ros.schema import About


@dataclass(frozen=True)
class GripperSpec:
    """Which action number is the gripper, and what its ends mean."""

    name: Annotated[str, About("The last name of the action.", kind="one of `names`")]
    open: Annotated[float, About("Its value when open.")]
    closed: Annotated[float, About("Its value when closed.")]


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
            "position, or else the transform of `tool_frame`.",
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
    base: Annotated[
        MeasuredPart,
        About(
            "Of a base that follows a trajectory: x, y, yaw, or x, y and the quaternion's z and w, in the trajectory's "
            "frame; by default of the one Odometry or PoseStamped input in that frame.",
            default="derived",
        ),
    ] = field(default_factory=MeasuredPart)


@dataclass(frozen=True)
class TrackerSpec:
    """How a base follows a trajectory: pure pursuit (Coulter 1992, CMU-RI-TR-92-01)."""

    lookahead_m: Annotated[
        float, About("Distance to the point of the path that the base steers to.", unit="m", above=0)
    ] = 0.4
    turn_in_place: Annotated[
        float,
        About(
            "Further aside than this the base first turns towards that point where it stands.",
            unit="rad",
            above=0,
            at_most=3.2,
        ),
    ] = 1.6


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
            "(rad; names are joint names), `planar_twist` of a mobile base: linear x, angular z, or linear x, y, "
            "angular z (m/s, rad/s), or `trajectory` of one: x, y, yaw of a waypoint (m, rad) in a fixed `frame`."
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
        named(
            "frame_id of the motion (REP-105): `base_frame` or `tool_frame`; of a trajectory the fixed frame of its "
            "waypoints, like odom. A workspace is held in the base frame in any case; motions in the tool frame are "
            "turned by the measured orientation.",
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
    tracker: Annotated[
        TrackerSpec,
        About(
            "Of a trajectory, and only there: how commands that follow it are made, for sinks that take twists.",
            unhashed=REACTION,
        ),
    ] = field(default_factory=TrackerSpec)
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
    def has_orientation(self) -> bool:
        """Whether every step says how the robot is turned."""
        return self.rotation != "none" or self.representation == "trajectory"

    @property
    def rotation_slice(self) -> slice:
        """The rotation's numbers within a Cartesian action vector."""
        return slice(3, 3 + ROTATION_WIDTH[self.rotation])
