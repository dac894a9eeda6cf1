"""Where a frame is in another at a tick, along the tree of /tf and /tf_static. No ROS import.

Several publishers share /tf, each with the frames and stamps of its own, so every child frame has its own samples, as
every joint has in `JointStream`. What is on /tf_static holds at all times. Messages are stored when they come and
decoded when the next tick is looked at: only then are their frames known.
"""

from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from vla_ros.contract import AlignmentSpec
from vla_ros.contract.schema import TransformSpec
from vla_ros.data_types import Array, DecodeError, nearest_name
from vla_ros.data_types.foreign_text import listed, plain
from vla_ros.data_types.rotations import from_quaternion, slerp
from vla_ros.messages.decode_failures import unforeseen
from vla_ros.messages.forms.transforms import (
    IDENTITY,
    MAX_TRANSFORMS,
    StampedTransform,
    Transform,
    composed,
    inverted,
    transforms_of,
)
from vla_ros.resampling import Gap, SampleBuffer, Stamped, hold, interpolate, linear, nearest
from vla_ros.streams.stream import Stream, StreamStatus

_MAX_PENDING = 4096
"""Messages that wait for the next tick: eight seconds at 500 Hz."""


class TransformStream(Stream):
    """As `Stream`, of the transform between two frames.

    Args:
        transform: Which.
        numbers: Which of x, y, z and the quaternion's x, y, z, w the value has, by their indices.
        alignment: Method and timeline, for every edge of the tree.
        **stream: As `Stream`, without `decode` and `blend`.
    """

    def __init__(
        self, transform: TransformSpec, numbers: Sequence[int], alignment: AlignmentSpec, **stream: Any
    ) -> None:
        super().__init__(decode=lambda message: message, blend=_between, alignment=alignment, **stream)
        self._transform, self._numbers = transform, list(numbers)
        self._by_stamp = alignment.timeline == "header"
        self._pending: deque[tuple[bytes, int, bool, int | None]] = deque(maxlen=_MAX_PENDING)
        self._edges: dict[str, tuple[str, SampleBuffer | Transform]] = {}
        self._dropped = self._n_static = 0
        self._ahead_sentence = ""

    def push_static(self, raw: bytes, receive_ns: int) -> None:
        """Store a serialised message of /tf_static."""
        self._pass(raw, receive_ns, True)

    def _accept(self, raw: bytes, receive_ns: int, is_static: bool) -> None:
        if is_static:
            self._n_static += 1
        else:
            self._arrived(receive_ns)
            self._dropped += len(self._pending) == _MAX_PENDING
        self._pending.append((raw, receive_ns, is_static, self._assembled_ns))

    @property
    def newest_ns(self) -> int | None:
        """Stamp of the newest sample of the edge that is oldest, None while the tree does not reach."""
        return self._newest()[0]

    def newest(self) -> tuple[int, Array] | None:
        """As `Stream.newest`: at the newest moment that every edge of the way has reached.

        Raises:
            DecodeError: The last message was refused.
        """
        newest_ns, way = self._newest()
        if newest_ns is None:
            return None
        value = self._along(way, newest_ns, hold)
        return None if isinstance(value, Gap) else (newest_ns, value[self._numbers])

    def reached(self, tick_ns: int) -> bool:
        """Whether nothing that can still come changes the value at the tick."""
        newest_ns, way = self._newest()
        if way is not None and not any(isinstance(self._edges[child][1], SampleBuffer) for child, _ in way):
            return True
        return newest_ns is not None and newest_ns >= tick_ns

    def value_at(self, tick_ns: int) -> Array | Gap:
        """As `Stream.value_at`."""
        _, way = self._newest()
        if way is None:
            return Gap(self._refusal or self._no_way(), None if not self._edges else 0)
        value = self._interpolated(partial(self._along, way, tick_ns, None))
        return value if isinstance(value, Gap) else value[self._numbers]

    def age_ns(self, tick_ns: int) -> int | None:
        """How long before the tick the oldest edge of the way was sampled; 0 where all are static."""
        _, way = self._newest()
        if way is None:
            return None
        ages = []
        for child, _ in way:
            buffer = self._edges[child][1]
            if isinstance(buffer, SampleBuffer):
                sample = buffer.before(tick_ns)
                if sample is None:
                    return None
                ages.append(tick_ns - sample.stamp_ns)
        return max(ages, default=0)

    def discard_before(self, stamp_ns: int) -> None:
        """Forget the samples that are older than a stamp; what is static stays."""
        for _, buffer in list(self._edges.values()):
            if isinstance(buffer, SampleBuffer):
                buffer.discard_before(stamp_ns)

    def clear(self) -> None:
        """Forget the samples; counters and what is static stay."""
        for _, buffer in list(self._edges.values()):
            if isinstance(buffer, SampleBuffer):
                buffer.clear()
        self._pending = deque((item for item in self._pending if item[2]), maxlen=_MAX_PENDING)
        self._refusal = ""
        self._assembled_ns = None
        self._meter.clear()

    def static_status(self, topic: str) -> StreamStatus:
        """Return how many messages of static transforms came; they have no rate and no age."""
        return StreamStatus(self.key, topic, self._n_static, 0.0, float("inf"), 0, 0, 0)

    @property
    def _overflows(self) -> int:
        return self._dropped

    def _newest(self) -> tuple[int | None, list[tuple[str, bool]] | None]:
        """Read what is pending; return the newest moment that the way has reached, and the way."""
        while self._pending:
            self._read(*self._pending.popleft())
        way = self._way()
        if way is None:
            return None, None
        stamps = [buffer.newest_ns for child, _ in way if isinstance(buffer := self._edges[child][1], SampleBuffer)]
        return (None if None in stamps else min((s for s in stamps if s is not None), default=0)), way

    def _read(self, raw: bytes, receive_ns: int, is_static: bool, assembled_ns: int | None) -> None:
        try:
            transforms = transforms_of(self._deserialize(raw, self.type_name), self._place)
        except DecodeError as reason:
            self._decode_errors += 1
            self._refusal = str(reason) if str(reason).startswith(self._place) else f"{self._place}: {reason}"
            return
        except Exception as reason:  # noqa: BLE001 - as in every decoder: nothing that a message holds ends the thread
            self._decode_errors += 1
            self._refusal = str(unforeseen(self._place, reason))
            return
        late: set[str] = set()
        self._ahead_sentence = ""
        for item in transforms:
            is_known = item.child in self._edges or len(self._edges) < MAX_TRANSFORMS
            if is_known and self._take(item, receive_ns, is_static, assembled_ns):
                late.add(item.child)
        if late and any(child in late for child, _ in self._way() or ()):
            stamp_ns = transforms[0].stamp_ns if self._by_stamp else receive_ns
            self._note_late(transforms[0].child, stamp_ns, assembled_ns)
        self._refusal = self._ahead_sentence

    def _take(self, item: StampedTransform, receive_ns: int, is_static: bool, assembled_ns: int | None) -> bool:
        """Keep a transform; return whether it came after a tick that it belongs to."""
        parent, edge = self._edges.get(item.child, ("", None))
        if is_static:
            self._edges[item.child] = (item.parent, item.value)
            return False
        stamp_ns = item.stamp_ns if self._by_stamp else receive_ns
        if stamp_ns == 0:
            self._unstamped += 1
            return False
        if self._is_ahead(stamp_ns, receive_ns):
            self._ahead_sentence = self._ahead(stamp_ns - receive_ns)
            return False
        if parent != item.parent or not isinstance(edge, SampleBuffer):
            edge = SampleBuffer(self._buffer.span_ns)
            self._edges[item.child] = (item.parent, edge)
        before_ns = edge.newest_ns
        if not edge.push(stamp_ns, item.value, receive_ns):
            self._drops += 1
            return False
        self._meter.add(receive_ns - stamp_ns, item.child)
        return self._is_late(stamp_ns, before_ns, assembled_ns)

    def _way(self) -> list[tuple[str, bool]] | None:
        """Return the edges from the parent to the child, by their child frame, True where they are gone upwards."""
        up, down = self._to_root(self._transform.parent), self._to_root(self._transform.child)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            return None
        upwards = [(frame, True) for frame in up[: up.index(common)]]
        downwards = [(frame, False) for frame in reversed(down[: down.index(common)])]
        return [*upwards, *downwards]

    def _to_root(self, frame: str) -> list[str]:
        frames = [frame]
        while frames[-1] in self._edges and len(frames) <= MAX_TRANSFORMS:
            parent = self._edges[frames[-1]][0]
            if parent in frames:
                break  # a loop of frames leads to no root
            frames.append(parent)
        return frames

    def _along(self, way: list[tuple[str, bool]] | None, tick_ns: int, method: Any) -> Transform | Gap:
        """Compose the edges of a way at a tick, float64 [7], or say which of them has no value."""
        value = IDENTITY
        for child, is_up in way or ():
            edge = self._edge_at(child, tick_ns, method)
            if isinstance(edge, Gap):
                reason = {"silent": "has no sample before it", "stale": "is too old"}.get(edge.reason, edge.reason)
                return Gap(f"the transform of '{child}' in '{self._edges[child][0]}' {reason}", edge.age_ns)
            value = composed(value, inverted(edge) if is_up else edge)
        whole: Transform = np.concatenate([value[:3], from_quaternion(value[3:], "quaternion")])
        return whole

    def _edge_at(self, child: str, tick_ns: int, method: Any) -> Transform | Gap:
        edge = self._edges[child][1]
        if not isinstance(edge, SampleBuffer):
            return edge
        if method is None and self._method == "interpolate":
            between: Transform | Gap = interpolate(edge, tick_ns, self.max_age_ns, np.asarray, _between)
            return between
        choose = method or (nearest if self._method == "nearest" else hold)
        chosen: Stamped | Gap = choose(edge, tick_ns, self.max_age_ns)
        return np.asarray(chosen.payload, np.float64) if isinstance(chosen, Stamped) else chosen

    def _no_way(self) -> str:
        frames = sorted({*self._edges, *(parent for parent, _ in self._edges.values())})
        if not frames:
            return "silent"
        missing = [f for f in (self._transform.parent, self._transform.child) if f not in frames]
        if not missing:
            return f"no transforms lead from '{self._transform.parent}' to '{self._transform.child}'"
        names = list(map(plain, frames))
        return (
            f"no transform names the frame '{missing[0]}'; they name {listed(names)}.{nearest_name(missing[0], names)}"
        )


def _between(before: Array, after: Array, weight: float) -> Transform:
    turn = slerp(np.asarray(before)[3:], np.asarray(after)[3:], weight)
    return np.concatenate([linear(before[:3], after[:3], weight), turn])
