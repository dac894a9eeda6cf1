"""What a simulated robot may have beside the `Robot` protocol: a class that has the methods has the part.

Nothing here is needed to drive a robot over topics. Without `RendersSnapshots` pictures are made while simulated time
stands still, without `HasFrames` there is no ``/tf``, without `HasCameraInfo` no calibration beside the images, without
`ReadsCommands` commands are read by the decoders of recorded actions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, SinkSpec
from vla_ros.sim.commands import SimCommand


@dataclass(frozen=True)
class FrameTransform:
    """Where a frame is in another one.

    Attributes:
        parent: frame_id.
        child: frame_id.
        position: Of the child's origin in the parent, m [3].
        rotation: Quaternion [4] x, y, z, w.
        is_static: Whether it never changes.
    """

    parent: str
    child: str
    position: NDArray[np.float64]
    rotation: NDArray[np.float64]
    is_static: bool = False


@runtime_checkable
class HasFrames(Protocol):
    """Says where its sensors are."""

    def frames(self) -> Sequence[FrameTransform]:
        """Return the present transforms, a tree; the same frames at any time."""


@runtime_checkable
class HasCameraInfo(Protocol):
    """Says how its cameras see."""

    def camera_info(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return the sensor_msgs/CameraInfo of an image input, made by a `RosbagsMaker`."""


@runtime_checkable
class RendersSnapshots(Protocol):
    """Pictures of a copied state, so that physics and clock go on while they are rendered."""

    def snapshot(self, into: Any = None) -> Any:
        """Copy the state.

        Args:
            into: An earlier snapshot of this robot to overwrite, or None for a new one.
        """

    def picture(self, spec: InputSpec, stamp_ns: int, snapshot: Any) -> Any:
        """Return an image input's message of a snapshot; always called in the same thread."""


@runtime_checkable
class ReadsCommands(Protocol):
    """Makes of some message types more than a recorded action's numbers."""

    @property
    def command_types(self) -> Collection[str]:
        """ROS types of the sinks that it reads itself; may be a plain attribute."""

    def read_command(self, sink: SinkSpec, message: Any, now_ns: int) -> SimCommand:
        """Return the command of a message; its `order` is what `command` is given.

        Raises:
            CommandRefusedError: The robot cannot obey it.
        """


@runtime_checkable
class HasNoiseScale(Protocol):
    """Says what noise of 1 means on each number of its action; half the range of the contract's limits otherwise."""

    @property
    def noise_scale(self) -> NDArray[np.float64]:
        """Return float64 [A], 0 where there is to be no noise; may be a plain attribute."""


@runtime_checkable
class MayFail(Protocol):
    """Knows ends from which an episode cannot succeed any more."""

    @property
    def failure(self) -> str:
        """What went wrong, in a few words; empty while nothing did. May be a plain attribute."""
