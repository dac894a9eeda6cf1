"""An input whose newest value holds until it is replaced: an instruction, an image of the goal. No ROS import."""

from functools import partial
from threading import Lock
from typing import Any

import numpy as np

from vla_ros.contract import INSTRUCTION, InputSpec
from vla_ros.data_types import Array, DecodeError
from vla_ros.messages.decode_failures import decode_message
from vla_ros.messages.decoders import decode_input
from vla_ros.resampling import Gap
from vla_ros.streams.stream import Deserialize, StreamStatus

_KEPT = 4  # values kept beside the newest, for ticks assembled after it came


class LatchedStream:
    """The values of one latched topic, decoded as they come. All methods may be called from any thread.

    Args:
        spec: The input.
        deserialize: Bytes to message.
    """

    def __init__(self, spec: InputSpec, deserialize: Deserialize) -> None:
        self.spec = spec
        self._place = f"{spec.topic} ({spec.key})"
        self._deserialize = deserialize
        self._lock = Lock()
        self._values: list[tuple[int, Array | DecodeError]] = []
        self._count = self._decode_errors = 0
        self._newest_ns: int | None = None
        if spec.key == INSTRUCTION:
            self.set(np.array(spec.default), 0)

    def push(self, raw: bytes, receive_ns: int) -> bool:
        """Take a serialised message; return whether the value is another one than before.

        One that cannot be decoded takes the last value away: that it was to be replaced is certain. An instruction
        keeps the last one.

        Raises:
            DecodeError: It does not hold what the contract says.
        """
        with self._lock:
            self._count += 1
            self._newest_ns = receive_ns
        try:
            value = self.decode(raw)
        except DecodeError as reason:
            with self._lock:
                self._decode_errors += 1
                if self.spec.key != INSTRUCTION:
                    self._store(receive_ns, DecodeError(str(reason)))  # without traceback and the message it holds
            raise
        return self.set(value, receive_ns)

    def decode(self, raw: bytes) -> Array:
        """Return the value of a serialised message: as `decode_input`, of an instruction a str array of shape [].

        Raises:
            DecodeError: It does not hold what the contract says; names topic and key.
        """
        decode = partial(decode_input, self.spec)
        return decode_message(raw, self.spec.type, self._place, self._deserialize, decode)

    def set(self, value: Array, receive_ns: int) -> bool:
        """Let a value hold from a moment on; return whether it is another one than before."""
        value.setflags(write=False)
        with self._lock:
            before = self._values[-1][1] if self._values else None
            if isinstance(before, np.ndarray) and np.array_equal(before, value):
                return False
            self._store(receive_ns, value)
            return True

    def value_at(self, tick_ns: int) -> Array | Gap:
        """Return what held at a tick, or why nothing did."""
        with self._lock:
            value = next((v for stamp_ns, v in reversed(self._values) if stamp_ns <= tick_ns), None)
        if value is None:
            return Gap("silent", None)
        return Gap(str(value), 0) if isinstance(value, DecodeError) else value

    @property
    def newest(self) -> Array | None:
        """The value that holds now; None where there is none."""
        value = self._values[-1][1] if self._values else None
        return value if isinstance(value, np.ndarray) else None

    def forget_times(self) -> None:
        """Time went back: what holds now has always held."""
        with self._lock:
            self._values = [(0, value) for _, value in self._values[-1:]]

    def status(self, now_ns: int) -> StreamStatus:
        """Return the counters."""
        age_s = float("inf") if self._newest_ns is None else (now_ns - self._newest_ns) / 1e9
        counts: dict[str, Any] = {"count": self._count, "decode_errors": self._decode_errors}
        return StreamStatus(
            key=self.spec.key, topic=self.spec.topic, rate_hz=0.0, age_s=age_s, drops=0, unstamped=0, **counts
        )

    def _store(self, stamp_ns: int, value: Array | DecodeError) -> None:
        if self._values and self._values[-1][0] >= stamp_ns:
            self._values.pop()  # two in one moment: the later one counts
        self._values = [*self._values[-_KEPT:], (stamp_ns, value)]
