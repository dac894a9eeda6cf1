"""A bag with a list of its late samples, as a sequence of samples, latched messages and ticks for a replay."""

from collections.abc import Iterator
from pathlib import Path

from vla_ros.bags import BagMessage
from vla_ros.contract import RobotContract
from vla_ros.converters.episode import contract_of_run, needed_ticks, ticks_ns
from vla_ros.converters.feed import Sample, samples_and_ticks
from vla_ros.converters.late_list import LateList, unknown
from vla_ros.converters.scan import decide_segments, read_episode_file, scan_bag
from vla_ros.converters.timing import stream_times
from vla_ros.data_types import NANOSECONDS, DatasetError


class ListedBag:
    """Reads a bag as the converter does, which needs no clock to know what belongs to a tick.

    Args:
        bag: The bag.
        robot: The contract.
        late: The list.

    Attributes:
        contract: What the runtime is to run with: it keeps samples for as long as a tick may wait for another stream's.
        max_wait_ns: Of that contract.

    Raises:
        DatasetError: The bag is not readable, its clocks step or do not belong together, or the list is not of it.
    """

    def __init__(self, bag: Path, robot: RobotContract, late: LateList) -> None:
        folder = bag if bag.is_dir() else bag.parent
        self._scan = scan_bag(bag, robot, read_episode_file(folder))
        decide_segments(self._scan, robot, "auto")
        if len(self._scan.segments) > 1:
            raise DatasetError(f"{bag}: {self._scan.segments[1].begins}; a list of late samples is of one stretch.")
        self.contract = contract_of_run(robot, "auto")
        self.max_wait_ns = round(self.contract.max_wait_s * NANOSECONDS)
        self._segment, self._late = self._scan.segments[0], late.of(bag)
        self._streams = stream_times(self._scan, self._segment, "auto", robot)
        needed = [s for s in self._streams if s.source.required]
        self._ticks = ticks_ns(needed_ticks(needed, robot.fps, str(bag)), robot.fps)
        unknown(self._late, self._streams, late.source)

    def items(self, messages: Iterator[BagMessage]) -> Iterator[Sample | BagMessage | int]:
        """Yield samples, latched messages before the first tick that is not before them, and the stamps of ticks.

        Args:
            messages: The bag's, those that are not sampled among them.
        """
        latched = self._latched(messages)
        for item in samples_and_ticks(self._scan, self._streams, self._ticks, self._late, recover=False):
            if isinstance(item, Sample):
                yield item
                continue
            at_ns = int(self._ticks[item])
            while latched and latched[0].receive_ns <= at_ns:
                yield latched.pop(0)
            yield at_ns

    def _latched(self, messages: Iterator[BagMessage]) -> list[BagMessage]:
        """Return what is not sampled, on the clock of the stamps; what never changes comes first, when it was sent."""
        sampled = {stream.source.topic for stream in self._streams}
        static = {spec.transform.static_topic for spec in self.contract.inputs if spec.transform is not None}
        others = [m for m in messages if m.topic not in sampled]
        return [
            m._replace(receive_ns=0 if m.topic in static else m.receive_ns - self._segment.offset_ns)
            for m in sorted(others, key=lambda m: (m.topic not in static, m.receive_ns))
        ]
