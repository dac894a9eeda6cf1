"""The action that moves nothing, in each representation. It needs no measurement, only what was commanded last."""

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ActionSpec

_NO_ROTATION: dict[str, tuple[float, ...]] = {
    "none": (),
    "rotation_vector": (0.0, 0.0, 0.0),
    "quaternion": (0.0, 0.0, 0.0, 1.0),
    "rot6d": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
}


def zero_motion(action: ActionSpec, last: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return the action that keeps the robot where it is.

    A displacement or a twist becomes zero with the gripper as it was last commanded; a pose or joint positions repeat
    the last command.

    Args:
        action: The robot's action.
        last: float64 [A], the last action commanded; None before the first.

    Returns:
        float64 [A], or None before the first command: nothing was set in motion then, and neither the gripper's nor
        the arm's target is known.
    """
    if last is None:
        return None
    if action.representation in ("pose", "joint_position"):
        return last.copy()
    zero = np.zeros_like(last)
    zero[action.rotation_slice] = _NO_ROTATION[action.rotation]
    if action.gripper_index is not None:
        zero[action.gripper_index] = last[action.gripper_index]
    return zero
