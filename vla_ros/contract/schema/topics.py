"""What every stream of a contract has: quality of service, and how its samples become the value at a tick."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vla_ros.contract.schema.vocabulary import TRANSPORT, Alignment, Timeline
from vla_ros.schema import About


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


Subscription = Annotated[
    QosSpec, About("Quality of service of the subscription.", unhashed=TRANSPORT, default="see there")
]

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
