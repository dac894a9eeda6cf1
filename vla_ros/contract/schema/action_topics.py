"""Topics of the action: where it is published, ``action.sinks``, and where it was recorded, ``action.record``."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vla_ros.contract.schema.topics import AlignmentSpec, QosSpec, Subscription
from vla_ros.contract.schema.vocabulary import LATE, ROS_TYPE, TRANSPORT, RosNames, joint_names, topic_name
from vla_ros.contract.types import ACTION_SOURCES, SINK_REPRESENTATIONS
from vla_ros.schema import About


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
        joint_names(
            "Of an array, a number, a JointState or JointTrajectory: which numbers it carries, all by default; of "
            "joints a mapping where the robot calls them otherwise.",
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
    ros_names: RosNames = ()
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
    qos: Subscription
    alignment: Annotated[AlignmentSpec, About("How commands become the action of a tick.", default="see there")]
    max_age_s: Annotated[
        float,
        About("Older than this at a tick there was no action.", unit="s", above=0, unhashed=LATE),
    ]
    next_state: Annotated[
        bool,
        About(
            "The topic holds the robot's state and not a command: the action of a tick is the state at the next one, "
            "which the demonstrator reached. Only of a pose, of joint positions or of a trajectory."
        ),
    ] = False
    names: Annotated[
        tuple[str, ...],
        joint_names(
            "Of a JointState, an array or a number: which numbers of the action it gives, all by default where it is "
            "the only topic. Of a JointState a mapping where its messages call the joints otherwise.",
        ),
    ] = ()
    ros_names: RosNames = ()
