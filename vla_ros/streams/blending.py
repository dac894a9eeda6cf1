"""How two values of a stream are interpolated: numbers linearly, rotations on SO(3). No ROS import."""

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import ActionSpec, InputSpec
from vla_ros.data_types import ContractError
from vla_ros.data_types.rotations import slerp
from vla_ros.resampling import Blend, linear


def input_blend(spec: InputSpec) -> Blend:
    """Return how two samples of an input are interpolated.

    Raises:
        ContractError: Part of a quaternion is to be interpolated; a rotation needs all four numbers in order.
    """
    if spec.alignment.method != "interpolate" and spec.window is None:
        return linear  # never used
    parts = []
    for prefix in dict.fromkeys(field.rpartition(".")[0] for field in spec.fields if "orientation" in field):
        quaternion = tuple(f"{prefix}.{axis}" for axis in "xyzw")
        start = spec.fields.index(next(field for field in spec.fields if field.startswith(f"{prefix}.")))
        chosen = tuple(field for field in spec.fields if field.startswith(f"{prefix}."))
        if chosen != quaternion or spec.fields[start : start + 4] != quaternion:
            raise ContractError(
                f"{spec.topic} ({spec.key}): to interpolate {prefix}, fields must hold {', '.join(quaternion)} "
                f"in this order, got {', '.join(chosen)}; add them or use 'hold'"
            )
        parts.append((slice(start, start + 4), "quaternion"))
    return _with_rotations(parts)


def action_blend(action: ActionSpec, names: tuple[str, ...] = ()) -> Blend:
    """Return how two recorded actions are interpolated: a pose's rotation on SO(3), all else linearly.

    Args:
        action: The action.
        names: Of the numbers of a part of it, in which a rotation's stand together; none for all.
    """
    if action.representation == "trajectory":
        return _planar
    if action.representation != "pose" or action.rotation == "none":
        return linear
    names, rotation = names or action.names, action.names[action.rotation_slice]
    if rotation[0] not in names:
        return linear
    start = names.index(rotation[0])
    return _with_rotations([(slice(start, start + len(rotation)), action.rotation)])


def _planar(before: NDArray[np.float64], after: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
    """Blend x, y and yaw; the yaw goes the shorter way round."""
    value = linear(before, after, weight)
    turn = (after[2] - before[2] + np.pi) % (2 * np.pi) - np.pi
    value[2] = (before[2] + weight * turn + np.pi) % (2 * np.pi) - np.pi
    return value


def _with_rotations(parts: list[tuple[slice, str]]) -> Blend:
    if not parts:
        return linear

    def blend(before: NDArray[np.float64], after: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
        value = linear(before, after, weight)
        for where, form in parts:
            value[where] = slerp(before[where], after[where], weight, form)
        return value

    return blend
