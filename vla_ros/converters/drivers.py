"""Who sends what on a topic that several drivers share: each has stamps, and maybe a clock, of its own.

The joints of an arm and of a gripper come in messages of their own, and so do the transforms of several publishers. A
driver is told by what its messages carry; one that carries nothing of the contract's does not matter.
"""

from collections.abc import Callable, Mapping
from typing import Any

from vla_ros.bags import BagMessage
from vla_ros.contract import RobotContract
from vla_ros.data_types import DatasetError, DecodeError
from vla_ros.messages.forms.joints import JOINT_STATE, carried_joints
from vla_ros.messages.forms.transforms import TF_MESSAGE, first_transform, transforms_of
from vla_ros.streams.late_samples import first_name

_MAX_DRIVERS = 4096
"""Of all topics; what further ones send counts as one driver's."""


class Drivers:
    """Numbers the drivers of a bag's topics.

    Args:
        contract: The robot.
        deserialize: Turns the bag's bytes into messages.

    Attributes:
        parts: By a driver's number, its first joint or child frame; 0 is who sends on a topic that is not shared.
    """

    def __init__(self, contract: RobotContract, deserialize: Callable[[bytes, str], Any]) -> None:
        self._deserialize = deserialize
        self.parts: list[str] = [""]
        self._numbers: dict[tuple[str, tuple[str, ...]], int] = {}
        self._carried: dict[int, set[str]] = {}
        self._parents: dict[str, str] = {}
        self._joints = _wanted_joints(contract)
        self._ways = {s.topic: (s.transform.parent, s.transform.child) for s in contract.inputs if s.transform}
        self.static_topics = {s.transform.static_topic for s in contract.inputs if s.transform}

    def number(self, message: BagMessage) -> int:
        """Return which driver sent a message."""
        if message.type not in (JOINT_STATE, TF_MESSAGE):
            return 0
        try:
            if message.type == TF_MESSAGE:
                names: tuple[str, ...] = (first_transform(message.raw)[1],)
            else:
                names, _ = carried_joints(message.raw, "position")
        except DecodeError:
            names = ()
        found = self._numbers.get((message.topic, names))
        if found is not None or len(self.parts) >= _MAX_DRIVERS:
            return found or 0
        number = self._numbers[message.topic, names] = len(self.parts)
        self.parts.append(first_name(names))
        self._carried[number] = self.edges(message) if message.type == TF_MESSAGE else set(names)
        return number

    def edges(self, message: BagMessage) -> set[str]:
        """Note the transforms of a message; return their child frames."""
        try:
            transforms = transforms_of(self._deserialize(message.raw, message.type), message.topic)
        except (DecodeError, DatasetError):  # said by who needs their values
            return set()
        for transform in transforms:
            self._parents.setdefault(transform.child, transform.parent)
        return {transform.child for transform in transforms}

    def relevant(self, topic: str) -> list[int]:
        """Return the drivers of a topic that carry what the contract names; all where none is known to."""
        own = [number for (name, _), number in self._numbers.items() if name == topic]
        wanted = self._joints.get(topic) or self._way(topic)
        return [number for number in own if self._carried[number] & wanted] or own

    def _way(self, topic: str) -> set[str]:
        """Return the frames between the two of a transform, each of which is a child in another."""
        if topic not in self._ways:
            return set()
        up, down = (self._to_root(frame) for frame in self._ways[topic])
        common = {*up} & {*down}
        return {frame for frame in (*up, *down) if frame not in common}

    def _to_root(self, frame: str) -> list[str]:
        frames = [frame]
        while (parent := self._parents.get(frames[-1])) is not None and parent not in frames:
            frames.append(parent)
        return frames


def _wanted_joints(contract: RobotContract) -> Mapping[str, set[str]]:
    wanted: dict[str, set[str]] = {}
    for spec in contract.inputs:
        if spec.type == JOINT_STATE:
            wanted.setdefault(spec.topic, set()).update(spec.ros_names or spec.names)
    for record in contract.action.records:
        if record.type == JOINT_STATE:
            names = record.ros_names or record.names or contract.action.names
            wanted.setdefault(record.topic, set()).update(names)
    return wanted
