"""The recorded action of each tick: what the demonstrator commanded. No ROS import."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RecordSpec, RobotContract
from vla_ros.contract.types import message_types
from vla_ros.data_types import first_tick_at_or_after, tick_ns
from vla_ros.messages.decoders import decode_action, decode_some_recorded_joints
from vla_ros.resampling import Gap
from vla_ros.streams.blending import action_blend
from vla_ros.streams.joint_stream import JointStream
from vla_ros.streams.stream import Deserialize, Stream, StreamStatus


class ActionStream:
    """Messages of the contract's `action.record` topics → the action at a tick.

    A command's header stamp is the moment it takes effect, so the action of tick t is the streams' value at t. Of a
    record with `next_state` it is the value one tick later: the state that the demonstrator reached. Where
    several topics give its parts, as a twist and a gripper beside it, there is an action when all of them have a value.
    Samples are forgotten as in `ObservationPipeline`: ask for a tick when it is complete.

    Args:
        contract: The robot.
        deserialize: Bytes to message.

    Attributes:
        records: The topics; `push` counts them in this order.
    """

    def __init__(self, contract: RobotContract, deserialize: Deserialize) -> None:
        action = contract.action
        self.records: tuple[RecordSpec, ...] = action.records
        self._names, self._fps = action.names, contract.fps
        self._streams = tuple(_stream(contract, record, deserialize) for record in self.records)
        self._places = [[action.names.index(name) for name in record.names or action.names] for record in self.records]

    def push(self, raw: bytes, receive_ns: int, index: int = 0) -> None:
        """Take a serialised message of topic `index`, received at `receive_ns` of the node clock. Never decodes."""
        self._streams[index].push(raw, receive_ns)

    def complete(self, stamp_ns: int) -> bool:
        """Whether samples at or after the tick have come, so that its action cannot change any more."""
        return all(
            stream.reached(self._due_ns(record, stamp_ns))
            for record, stream in zip(self.records, self._streams, strict=True)
        )

    def value_at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """Return the action at a tick, float64 [A], or None where a part of it has none within `max_age_s`.

        Raises:
            DecodeError: The message that the tick uses holds no such action.
        """
        action = np.empty(len(self._names))
        for record, stream, places in zip(self.records, self._streams, self._places, strict=True):
            value = stream.value_at(self._due_ns(record, stamp_ns))
            if isinstance(value, Gap):
                return None
            action[places] = value
        return action

    def _due_ns(self, record: RecordSpec, stamp_ns: int) -> int:
        """Return when a record's value is taken for the action of a tick."""
        if not record.next_state:
            return stamp_ns
        return tick_ns(first_tick_at_or_after(stamp_ns, self._fps) + 1, self._fps)

    def clear(self) -> None:
        """Forget all samples."""
        for stream in self._streams:
            stream.clear()

    def status(self, now_ns: int) -> StreamStatus:
        """Return what arrived on the first topic."""
        return self._streams[0].status(now_ns)


def _stream(contract: RobotContract, record: RecordSpec, deserialize: Deserialize) -> Stream:
    action, names = contract.action, record.names or contract.action.names
    common: dict[str, Any] = {
        "key": action.key,
        "topic": record.topic,
        "type_name": record.type,
        "alignment": record.alignment,
        "max_age_s": record.max_age_s,
        "reach_s": contract.max_wait_s,
        "deserialize": deserialize,
        "blend": action_blend(action, names),
    }
    row = message_types()[record.type]
    if row.as_input is not None and row.form == "joints":
        decode = partial(decode_some_recorded_joints, action, record)
        return JointStream(record.ros_names or names, "position", decode, **common)
    return Stream(decode=partial(decode_action, action, record.type, record=record), **common)
