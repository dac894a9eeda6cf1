"""What a case is. The measuring is in the modules beside this one."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.arms import Bench
from bench.results import Figure, Ratio


@dataclass(frozen=True)
class Measured:
    """What a case found.

    Attributes:
        ratios: What it is about.
        figures: Absolute numbers behind them, of this machine only.
        notes: Sentences that a reader of the ratios needs.
    """

    ratios: tuple[Ratio, ...]
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """One measurement with its baseline.

    Attributes:
        name: On the command line.
        title: In the table.
        seconds: How long each arm measures by default, s; of a recording for the conversion.
        repeats: How often every arm is measured.
        run: Takes the bench, seconds and repeats.
    """

    name: str
    title: str
    seconds: float
    repeats: int
    run: Callable[[Bench, float, int], Measured]
