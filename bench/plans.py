"""What the children of a measurement are told and what they report, as JSON files. No ROS."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class RobotPlan:
    """What the synthetic robot does.

    Attributes:
        contract: Contract file; its inputs are what may be published, its first sink is where commands are heard.
        rates_hz: Topic → messages per second. Topics not named are not published.
        seconds: Length of the measured window.
        output: Where the report goes.
        wait_for: What must be there before the window: a ``commands`` decided on an observation, or ``subscribers`` of
            every topic.
        on_grid: Publish at the ticks of each topic's rate, stamped with the tick, instead of at any phase.
        settle_s: Time between that and the window.
        count_topic: Instead of a window of time, send this topic ``seconds`` long after a silence, and have the policy
            node's diagnostics say how much of it arrived.
    """

    contract: str
    rates_hz: dict[str, float]
    seconds: float
    output: str
    wait_for: Literal["commands", "subscribers"] = "commands"
    on_grid: bool = False
    settle_s: float = 1.0
    count_topic: str = ""


@dataclass(frozen=True)
class TrainingPlan:
    """What a process that reads windows and trains on them does.

    Attributes:
        root: Dataset folder.
        loader: ``vla_ros`` or ``lerobot``.
        train: Whether a policy is trained on the batches, or they are only made.
        seconds: Length of the measured window.
        output: Where the report goes; frames are cached beside it.
        steps: End after so many batches, however long they take; 0 does not.
        batch_size: Windows in a batch.
        workers: Of the loader: threads of ours, processes of lerobot's.
        cache_bytes: As `WindowSampler` takes it.
        threads: torch's.
    """

    root: str
    loader: str
    train: bool
    seconds: float
    output: str
    steps: int = 0
    batch_size: int = 64
    workers: int = 2
    cache_bytes: int = 0
    threads: int = 2


@dataclass(frozen=True)
class TrainingReport:
    """What it did.

    Attributes:
        steps: Batches in the window.
        seconds: Length of the window.
        peak_bytes: Most memory that the process held; of lerobot's workers, none.
    """

    steps: int
    seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class RobotReport:
    """What the synthetic robot saw.

    Attributes:
        window_ns: Begin and end of the measured window, system clock.
        sent: Topic → messages published within it.
        commands: Received within it: [received, effect, observation] in ns of the system clock.
        status: Last PolicyStatus: state and counters, empty where there was none.
        node: Values of the policy node's own diagnostics after the window.
        counted: ``sent`` and ``delivered`` of `RobotPlan.count_topic`.
    """

    window_ns: tuple[int, int]
    sent: dict[str, int]
    commands: list[list[int]] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    node: dict[str, str] = field(default_factory=dict)
    counted: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class SubscriberPlan:
    """What a subscriber does with the first input of a contract.

    Attributes:
        contract: Contract file.
        output: Where the report goes, when SIGINT ends it.
        path: ``drop``: the callback that does least. ``keep``: the same, holding on to
            the last messages. ``record``: stamp and latency of every message. ``store``: the
            policy node's subscription, which stamps and stores. ``frames``: the policy node's session with a policy
            that does nothing, so that every tick is assembled, decoded and resized.
    """

    contract: str
    output: str
    path: Literal["drop", "keep", "record", "store", "frames"]


@dataclass(frozen=True)
class SubscriberReport:
    """What a subscriber saw.

    Attributes:
        cpu: [system clock in ns, processor time of the process in ns, messages received], ten times a second.
        frames: Observations assembled.
        arrivals: [header stamp, latency] in ns of every message, where recorded.
    """

    cpu: list[list[int]]
    frames: int = 0
    arrivals: list[list[int]] = field(default_factory=list)


def write_json(path: str | Path, content: Any) -> None:
    """Write a dataclass; the file appears whole or not at all, since its appearance is waited for."""
    path = Path(path)
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(content)), encoding="utf-8")
    temporary.replace(path)


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the fields of a dataclass written by `write_json`."""
    content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content
