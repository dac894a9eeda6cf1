"""Rotations and poses in tensors, by the numpy arithmetic that the robot's side uses. No steps, no feature keys.

Float64 throughout: chunks of a few hundred numbers cost nothing, and both sides of the robot boundary agree.
"""

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.contract import ROTATION_WIDTH
from vla_ros.data_types import ConfigError, ObservationError, nearest_name
from vla_ros.data_types.rotations import convert

RotationForm = Literal["rotation_vector", "quaternion", "rot6d"]

IDENTITY = {
    "rotation_vector": (0.0, 0.0, 0.0),
    "quaternion": (0.0, 0.0, 0.0, 1.0),
    "rot6d": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
}
"""No rotation, in each form."""

_SMALLEST = 1e-6  # length below which numbers stand for no rotation, as in vla_ros.data_types.rotations


def indices_of(names: tuple[str, ...], known: tuple[str, ...], place: str) -> list[int]:
    """Return where the named numbers are.

    Raises:
        ConfigError: One is not there, or stands there twice; says where it was named.
    """
    for index, name in enumerate(names):
        if name not in known or name in names[:index]:
            fault = "stands there twice" if name in known else f"is not one of {', '.join(known)}"
            raise ConfigError(f"{place}: '{name}' {fault}.{nearest_name(name, known) if name not in known else ''}")
    return [known.index(name) for name in names]


def check_width(names: tuple[str, ...], form: str, place: str) -> None:
    """Refuse a rotation of another width than its form has.

    Raises:
        ConfigError: Says how many numbers are expected.
    """
    if len(names) != ROTATION_WIDTH[form]:
        raise ConfigError(f"{place}: a {form} has {ROTATION_WIDTH[form]} numbers, got {', '.join(names) or 'none'}.")


def rotations(values: Tensor, source: str, target: str) -> Tensor:
    """Write rotations [..., W] in another form, float64; NaN where the numbers stand for none.

    A network may predict such numbers, if rarely; NaN is what the runtime refuses to command.
    """
    array = values.detach().cpu().double().numpy()
    valid = _stands_for_one(array, source)
    written = convert(np.where(valid[..., None], array, IDENTITY[source]), source, target)
    written[~valid] = np.nan
    return torch.from_numpy(written).to(values.device)


def known_rotations(values: Tensor, source: str, target: str, place: str) -> Tensor:
    """As `rotations`, of numbers that were measured or recorded.

    Raises:
        ObservationError: Some stand for no rotation; says where.
    """
    written = rotations(values, source, target)
    wrong = (~written.isfinite().all(dim=-1)).nonzero()
    if len(wrong):
        numbers = ", ".join(f"{float(number):g}" for number in values[tuple(wrong[0].tolist())])
        raise ObservationError(f"{place}: ({numbers}) is no rotation as {source}; look at where it was recorded.")
    return written


def _stands_for_one(array: NDArray[np.float64], form: str) -> NDArray[np.bool_]:
    finite = np.asarray(np.isfinite(array).all(axis=-1))
    safe = np.where(finite[..., None], array, 0.0)
    lengths = [np.linalg.norm(safe, axis=-1)] if form == "quaternion" else []
    if form == "rot6d":  # two columns that are not parallel
        first, second = safe[..., :3], safe[..., 3:]
        length = np.linalg.norm(first, axis=-1)
        x = first / np.maximum(length, _SMALLEST)[..., None]
        rest = second - np.sum(x * second, axis=-1, keepdims=True) * x
        lengths = [length, np.linalg.norm(rest, axis=-1)]
    return np.asarray(np.all([finite, *(length > _SMALLEST for length in lengths)], axis=0), dtype=np.bool_)


assert set(get_args(RotationForm)) == set(IDENTITY)  # noqa: S101  # a form more here needs its identity
