"""Rotations of a feature in the form that a network learns best. The rotation stays what it is.

Six numbers, the first two columns of the rotation matrix, are continuous over all rotations, which quaternions and
rotation vectors are not (Zhou et al., CVPR 2019, arXiv:1812.07035). What a network predicts becomes a rotation again by
Gram-Schmidt.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.processors.poses import IDENTITY, RotationForm, check_width, indices_of, known_rotations, rotations
from vla_ros.processors.step import Batch, Features, ProcessorStep
from vla_ros.schema import About, Checked

PARTS = {
    "rotation_vector": ("x", "y", "z"),
    "quaternion": ("x", "y", "z", "w"),
    "rot6d": ("xx", "yx", "zx", "xy", "yy", "zy"),
}
"""What the numbers of a form are called; of a matrix, row and column."""


@dataclass(frozen=True, kw_only=True)
class RotationFormOptions(Checked):
    """Options of `RotationFormStep`: which numbers, and from which form to which."""

    key: Annotated[str, About("Feature: `action`, or a vector that the policy sees.")] = "action"
    rotation: Annotated[tuple[str, ...], About("Names of the rotation's numbers, one after the other.")]
    source: Annotated[RotationForm, About("Form in which the robot has it.")] = "quaternion"
    target: Annotated[RotationForm, About("Form that the policy sees.")] = "rot6d"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_width(self.rotation, self.source, "rotation")
        if self.source == self.target:
            raise ConfigError(f"target: '{self.target}' is the form that it has already.")


class RotationFormStep(ProcessorStep):
    """Replaces the numbers of a rotation by those of another form, in their place."""

    name: ClassVar[str] = "rotation_form"
    options_class: ClassVar[type] = RotationFormOptions
    needs_units: ClassVar[bool] = True
    options: RotationFormOptions

    def features_after(self) -> Features:
        """Return the features with the rotation's new numbers, named ``rotation_xx`` and so on."""
        key = self.options.key
        if key not in self.before.numeric_keys or self.before[key].kind not in ("vector", "action"):
            known = ", ".join(k for k in self.before.numeric_keys if self.before[k].kind in ("vector", "action"))
            raise ConfigError(f"key: '{key}' is no vector of this policy, nor its action: {known}.")
        spec = self.before[key]
        indices = indices_of(self.options.rotation, spec.names, "rotation")
        self._first, self._last = indices[0], indices[-1] + 1
        if indices != list(range(self._first, self._last)):
            raise ConfigError(
                f"rotation: {', '.join(self.options.rotation)} do not stand one after the other in '{key}'."
            )
        new = tuple(f"rotation_{part}" for part in PARTS[self.options.target])
        names = (*spec.names[: self._first], *new, *spec.names[self._last :])
        if len(set(names)) != len(names):
            raise ConfigError(f"'{key}' has numbers called {', '.join(new)} already.")
        self._width = len(new)
        changed: FeatureSpec = replace(spec, shape=(len(names),), names=names)
        if spec is self.before.action:
            return Features(self.before.inputs, changed)
        return Features({**self.before.inputs, key: changed}, self.before.action)

    @property
    def changes(self) -> tuple[str, ...]:
        """The feature whose rotation it is."""
        return (self.options.key,)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the batch with the rotation in the policy's form, of actions those of older frames too.

        Raises:
            ObservationError: Numbers that were measured or recorded stand for no rotation.
        """
        key = self.options.key
        keys = (key, "past_action") if key == self.before.action.key else (key,)
        changed = {name: self._written(batch[name], batch, name) for name in keys if name in batch}
        return {**batch, **changed}

    def inverse(self, actions_BHA: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002  # the form does not depend on it
        """Return predicted actions with the rotation in the robot's form; NaN where they stand for none."""
        if self.options.key != self.before.action.key:
            return actions_BHA
        last = self._first + self._width
        rotation = rotations(actions_BHA[..., self._first : last], self.options.target, self.options.source)
        parts = (actions_BHA[..., : self._first], rotation.to(actions_BHA.dtype), actions_BHA[..., last:])
        return torch.cat(parts, dim=-1)

    def summary(self) -> str:
        """Say from which form to which."""
        options = self.options
        return f"{options.key}: {', '.join(options.rotation)} from {options.source} to {options.target}"

    def _written(self, values: Tensor, batch: Batch, name: str) -> Tensor:
        rotation = values[..., self._first : self._last]
        mask = "action_is_pad" if name == self.before.action.key else "is_pad"
        if name != "past_action" and mask in batch:  # anything may stand there
            identity = rotation.new_tensor(IDENTITY[self.options.source])
            rotation = torch.where(batch[mask][..., None].bool(), identity, rotation)
        place = f"'{name}' ({', '.join(self.options.rotation)})"
        written = known_rotations(rotation, self.options.source, self.options.target, place).float()
        return torch.cat([values[..., : self._first], written, values[..., self._last :]], dim=-1)
