"""One bag → the frames and actions of one episode, by the node's own pipeline under the bag's own receive times.

A tick is assembled when every stream has reached it, as in the live node, so a frame here equals the observation there,
bit for bit. The one difference: a live node must go on when the contract's `max_wait_s` has passed, while a recorder
that was late by more lost nothing. Such ticks are waited for and counted (`late_ticks`), since a robot that is as
late as its recorder was will see something else than it was trained on.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.converters.scan import BagScan
from vla_ros.data_types import NANOSECONDS, DatasetError, DecodeError, Frame, first_tick_at_or_after, tick_ns
from vla_ros.ros_io.bags import read_messages
from vla_ros.streams import ActionStream, Assembled, ObservationPipeline
from vla_ros.streams.stream import SPAN_MARGIN_S

_LATE_ACTION_S = 1.0
"""How long after its frame, beyond `max_age_s`, an action is waited for before the tick counts as without."""
_PATIENCE_NS = round(0.9 * SPAN_MARGIN_S * NANOSECONDS)
"""How long beyond the live limit a tick is waited for; the streams keep what it needs for a little longer."""


@dataclass
class EpisodeReader:
    """Reads the frames of one bag.

    Args:
        scan: What a first pass over the bag found.
        contract: The robot.
        features: What every frame must hold; only a point cloud that is not required may be silent, and is then NaN.
        recover: Read a cut-off file up to the cut.

    Attributes:
        ticks: Index and stamp in ns of each frame given so far.
        trimmed_begin, trimmed_end: Ticks left out at the ends, because something had no value yet or any more.
        late_ticks: Ticks whose samples were received later than a live node would have waited for them.
    """

    scan: BagScan
    contract: RobotContract
    features: Mapping[str, FeatureSpec]
    recover: bool = False
    ticks: list[int] = field(default_factory=list)
    trimmed_begin: int = 0
    trimmed_end: int = 0
    late_ticks: int = 0
    _hole: str = ""
    _hole_length: int = 0
    _problems: dict[str, list[str]] = field(default_factory=dict)

    def frames(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield each frame's features, with ``action``, in order and without a hole.

        Raises:
            DatasetError: A stream has a hole in the middle; says which, when and how long. Also as `read_messages`.
        """
        for assembled, tick, action in self._resolved():
            problem = self._problem(assembled, action)
            if problem or assembled.frame is None:
                self._count_missing(tick, problem)
                continue
            if self._hole and self.ticks:
                raise self._hole_error(tick)
            self._hole, self._hole_length = "", 0
            self.ticks.append(tick)
            yield self._row(assembled.frame, action)
        self.trimmed_end = self._hole_length
        if not self.ticks:
            raise self._nothing_error()

    def _resolved(self) -> Iterator[tuple[Assembled, int, NDArray[np.float64] | str]]:
        """Yield every tick with its frame, and its action or what is wrong with it."""
        pipeline = ObservationPipeline(self.contract, self.scan.deserialize)
        actions = ActionStream(self.contract, self.scan.deserialize)
        waiting: deque[tuple[Assembled, int]] = deque()
        ticks = iter(range(*self._tick_range()))
        next_tick = next(ticks, None)
        now_ns = -(1 << 62)
        for message in self._messages(pipeline):
            receive_ns = message[2]
            now_ns = max(now_ns, receive_ns)
            for pushed in (False, True):  # what has waited long enough goes before the message, what it completes after
                if pushed:
                    _push(message, pipeline, actions)
                while next_tick is not None and pipeline.complete(self._stamp(next_tick), now_ns - _PATIENCE_NS):
                    self.late_ticks += now_ns > self._stamp(next_tick) + round(self.contract.max_wait_s * NANOSECONDS)
                    waiting.append((pipeline.assemble(self._stamp(next_tick)), next_tick))
                    next_tick = next(ticks, None)
                while waiting and self._action_due(actions, waiting[0][1], now_ns):
                    assembled, tick = waiting.popleft()
                    yield assembled, tick, self._action(actions, tick)
        for assembled, tick in waiting:
            yield (
                assembled,
                tick,
                f"'action': the bag ends before a command for it on {self.contract.action.record.topic}",
            )

    def _messages(self, pipeline: ObservationPipeline) -> Iterator[tuple[list[int], bytes, int]]:
        """Yield stream indices (-1: the action), bytes and receive time on the clock of the header stamps."""
        streams: dict[str, list[int]] = {}
        for index, spec in enumerate(pipeline.specs):
            streams.setdefault(spec.topic, []).append(index)
        streams.setdefault(self.contract.action.record.topic, []).append(-1)
        there = [topic for topic in streams if topic in self.scan.topics]
        for message in read_messages(self.scan.storage, there, recover=self.recover):
            yield streams[message.topic], message.raw, message.receive_ns - self.scan.clock_offset_ns

    def _tick_range(self) -> tuple[int, int]:
        """First tick that every needed stream can have a value for, and the one after the bag's end."""
        needed = [s for s in self.scan.streams.values() if s.key == "action" or self._is_needed(s.key)]
        begin = max(int(s.stamps_ns[0]) - round(s.max_age_s * NANOSECONDS) for s in needed)
        end = max(int(s.stamps_ns[-1]) for s in needed)
        fps = self.contract.fps
        return first_tick_at_or_after(max(0, begin), fps), first_tick_at_or_after(end + 1, fps)

    def _stamp(self, tick: int) -> int:
        return tick_ns(tick, self.contract.fps)

    def _action_due(self, actions: ActionStream, tick: int, now_ns: int) -> bool:
        limit_s = self.contract.action.record.max_age_s + _LATE_ACTION_S
        return actions.complete(self._stamp(tick)) or now_ns > self._stamp(tick) + round(limit_s * NANOSECONDS)

    def _action(self, actions: ActionStream, tick: int) -> NDArray[np.float64] | str:
        record = self.contract.action.record
        try:
            value = actions.value_at(self._stamp(tick))
        except DecodeError as reason:
            return f"'action': {reason}"
        return f"'action': no command on {record.topic} within {record.max_age_s:g} s" if value is None else value

    def _is_needed(self, key: str) -> bool:
        spec = self.features.get(key)
        return spec is not None and (spec.kind != "points" or _is_required(self.contract, key))

    def _problem(self, assembled: Assembled, action: NDArray[np.float64] | str) -> str:
        """Say what keeps a tick from being a frame; empty when nothing does."""
        for missing in assembled.missing:
            if missing.needed or self._is_needed(missing.key):
                return str(missing)
        return action if isinstance(action, str) else ""

    def _count_missing(self, tick: int, problem: str) -> None:
        if not self.ticks:
            self.trimmed_begin += 1
        self._hole = self._hole or f"from {self._stamp(tick) / NANOSECONDS:.3f} s: {problem}"
        self._hole_length += 1
        self._problems.setdefault(problem.partition(":")[0], []).append(problem)

    def _hole_error(self, tick: int) -> DatasetError:
        gap_s = (self._stamp(tick) - self._stamp(self.ticks[-1])) / NANOSECONDS
        into_s = (self._stamp(self.ticks[-1]) - self._stamp(self.ticks[0])) / NANOSECONDS
        return DatasetError(
            f"{self.scan.bag}: a hole of {gap_s:.3f} s, {into_s:.3f} s into the episode, {self._hole}; "
            "record the episode again, or split the bag there."
        )

    def _nothing_error(self) -> DatasetError:
        """Name what was missing at most ticks: at the first ones everything is, and that explains nothing."""
        most = max(self._problems.values(), key=len, default=["the bag is shorter than a tick"])
        return DatasetError(f"{self.scan.bag}: no tick at which everything has a value; {most[-1]}.")

    def _row(self, frame: Frame, action: NDArray[np.float64] | str) -> dict[str, NDArray[Any]]:
        row: dict[str, NDArray[Any]] = {}
        for key, spec in self.features.items():
            if key == self.contract.action.key:
                row[key] = np.asarray(action, np.float32)
            elif key in frame.values:
                row[key] = np.asarray(frame.values[key])
            else:  # an optional cloud that was silent: no point, said in the one way the format has
                row[key] = np.full(spec.shape, np.nan, np.float32)
        return row


def _push(message: tuple[list[int], bytes, int], pipeline: ObservationPipeline, actions: ActionStream) -> None:
    indices, raw, receive_ns = message
    for index in indices:
        if index < 0:
            actions.push(raw, receive_ns)
        else:
            pipeline.push(index, raw, receive_ns)


def _is_required(contract: RobotContract, key: str) -> bool:
    return any(spec.required for spec in contract.inputs if spec.key == key)
