"""The recorded action of each tick: what the demonstrator commanded. No ROS import."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.messages.decoders import decode_action
from vla_ros.resampling import Gap
from vla_ros.streams.blending import action_blend
from vla_ros.streams.stream import Deserialize, Stream, StreamStatus


class ActionStream:
    """Messages of the contract's `action.record` topic → the action at a tick.

    A command's header stamp is the moment it takes effect, so the action of tick t is the stream's value at t.
    Samples are forgotten as in `ObservationPipeline`: ask for a tick when it is complete.

    Args:
        contract: The robot.
        deserialize: Bytes to message.
    """

    def __init__(self, contract: RobotContract, deserialize: Deserialize) -> None:
        action, record = contract.action, contract.action.record
        self._stream = Stream(
            key=action.key,
            topic=record.topic,
            type_name=record.type,
            alignment=record.alignment,
            max_age_s=record.max_age_s,
            reach_s=contract.max_wait_s,
            deserialize=deserialize,
            decode=partial(decode_action, action, record.type),
            blend=action_blend(action),
        )

    def push(self, raw: bytes, receive_ns: int) -> None:
        """Take a serialised message, received at `receive_ns` of the node clock. Never decodes."""
        self._stream.push(raw, receive_ns)

    def complete(self, tick_ns: int) -> bool:
        """Whether a sample at or after the tick has come, so that its action cannot change any more."""
        return self._stream.reached(tick_ns)

    def value_at(self, tick_ns: int) -> NDArray[np.float64] | None:
        """Return the action at a tick, float64 [A], or None where there is none within `max_age_s`.

        Raises:
            DecodeError: The message that the tick uses holds no such action.
        """
        value = self._stream.value_at(tick_ns)
        return None if isinstance(value, Gap) else value.astype(np.float64, copy=False)

    def clear(self) -> None:
        """Forget all samples."""
        self._stream.clear()

    def status(self, now_ns: int) -> StreamStatus:
        """Return what arrived."""
        return self._stream.status(now_ns)
