"""One conversion: what stays the same for all its bags, and what is said about them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vla_ros.bags.clock import ClockMode
from vla_ros.contract import RobotContract
from vla_ros.converters.late_list import LateList
from vla_ros.converters.report import ConversionReport, EpisodeReport, LeftOut
from vla_ros.converters.timeline import BagLine
from vla_ros.data_types import DatasetError, DecodeError
from vla_ros.datasets import WriteError


@dataclass
class Job:
    """What stays the same for all bags, and what is said about them."""

    bags: Sequence[Path]
    root: Path
    contract: RobotContract
    clock: ClockMode
    recover: bool
    instructions: Mapping[str, str]
    late: LateList | None = None
    served: dict[str, str] = field(default_factory=dict)
    skipped: list[LeftOut] = field(default_factory=list)
    refused: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    lines: dict[str, BagLine] = field(default_factory=dict)

    @contextmanager
    def refusing(self, bag: Path) -> Iterator[None]:
        """Note what is wrong with one bag and go on."""
        try:
            yield
        except WriteError:  # nothing is wrong with the bag
            raise
        except (DatasetError, DecodeError) as reason:
            self.refused.append(LeftOut(str(bag), str(reason)))
            self.lines.setdefault(str(bag), BagLine(str(bag))).refused = str(reason)

    def report(self, episodes: Sequence[EpisodeReport], left_out: Sequence[LeftOut]) -> ConversionReport:
        """Return what is said about the conversion; arguments as of `ConversionReport`."""
        parts = (tuple(episodes), tuple(self.skipped), tuple(self.refused), tuple(left_out), tuple(self.notes))
        return ConversionReport(self.root, self.contract.hash, *parts, dict(self.served))

    def nothing_converted(self) -> DatasetError:
        """Return why there is no dataset, when no bag became an episode."""
        if len(self.bags) == 1 and self.refused:
            return DatasetError(self.refused[0].reason)
        first = f"; the first: {self.refused[0].reason}" if self.refused else ""
        count = f"{len(self.skipped)} failed demonstrations, {len(self.refused)} refused"
        return DatasetError(f"none of {len(self.bags)} bags became an episode ({count}){first}")
