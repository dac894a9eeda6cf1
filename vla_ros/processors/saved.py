"""Saved numbers of processors, each looked at before it is used: there, of the right type and size, and possible.

A normalisation of NaN or of zeros, or one for another number of joints, moves the robot wrongly without a word.
No files: the caller says what the numbers were read from.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError
from vla_ros.processors.affine import DEGENERATE, RANGE_OF_MODE, Affine
from vla_ros.processors.text_models import MASK, TOKENS, VECTOR, VECTORS
from vla_ros.processors.text_spec import TextSpec

STATISTICS_KEPT = ("min", "max", "mean", "std", "q01", "q99")
_LONGEST_NAME = 120  # characters shown


@dataclass(frozen=True)
class SavedNumbers:
    """Tensors by name, and where they come from.

    Attributes:
        source: Name of their file.
        tensors: ``map/KEY/offset``, ``map/KEY/scale``, ``statistics/KEY/NAME`` and ``text/KEY``.
    """

    source: str
    tensors: Mapping[str, Tensor]

    def map(self, spec: FeatureSpec, names: Sequence[str]) -> Affine:
        """Return the map of a feature.

        Args:
            spec: The feature.
            names: Of the numbers that are mapped.

        Raises:
            CheckpointError: A part is missing, of another type or size, not finite, or a scale that no training makes.
        """
        parts = (f"map/{spec.key}/offset", f"map/{spec.key}/scale")
        offset, scale = (self._numbers(name, torch.float32, (len(names),)) for name in parts)
        # What does not vary is only centred, with scale 1; half: these numbers were rounded to float32.
        smallest = 0.5 * DEGENERATE * offset.abs().clamp(min=1.0)
        wrong = (scale <= smallest) & (scale != 1.0)
        self._refuse(parts[1], scale, wrong, names, "which divides to nonsense; expected a positive scale")
        return Affine(offset, scale)

    def statistics(
        self,
        spec: FeatureSpec,
        names: Sequence[str],
        mode: str,
        constant: Collection[str],
        group: str = "statistics",
    ) -> dict[str, Tensor]:
        """Return the statistics of a feature, statistic's name → float64 tensor.

        Args:
            spec: The feature.
            names: Of the numbers that are mapped.
            mode: How they are normalised.
            constant: Those of them that never varied in the data.
            group: First part of the tensors' names.

        Raises:
            CheckpointError: A statistic is of another type or size, not finite, or contradicts another one.
        """
        prefix = f"{group}/{spec.key}/"
        there = [name for name in STATISTICS_KEPT if prefix + name in self.tensors]
        used = RANGE_OF_MODE.get(mode, ())
        if not used and all(bool(self.tensors[prefix + name].isnan().all()) for name in there):
            return {name: self.tensors[prefix + name] for name in there}  # a stream that was empty, passed as it is
        absent = next((name for name in used if name not in there), None)
        if absent is not None:
            raise self.lacks(prefix + absent)
        kept = {name: self._numbers(prefix + name, torch.float64, (len(names),), flat=True) for name in there}
        flat = {name: values.flatten() for name, values in kept.items()}
        if "std" in flat:
            self._refuse(prefix + "std", flat["std"], flat["std"] < 0.0, names, "expected at least 0")
        for low, high in (("min", "max"), ("q01", "q99")):
            if low in flat and high in flat:
                self._refuse(prefix + high, flat[high], flat[high] < flat[low], names, f"which is below its '{low}'")
        if used:
            spread = flat["std"] if mode == "mean_std" else flat[used[1]] - flat[used[0]]
            if mode == "quantile" and {"min", "max"} <= flat.keys():  # stands in where the quantiles coincide
                spread = spread.maximum(flat["max"] - flat["min"])
            wrong = (spread <= 0.0) & torch.tensor([name not in constant for name in names])
            self._refuse(
                prefix + used[-1], flat[used[-1]], wrong, names, "so it never varied, but is scaled as if it did"
            )
        return kept

    def text(self, spec: TextSpec, n_instructions: int) -> dict[str, Tensor]:
        """Return what the saved instructions became: batch key → [instructions, ...].

        Raises:
            CheckpointError: A table is missing, of another type or size, not finite, or has a token out of range.
        """
        tables = {}
        for key, (dtype, shape) in _text_forms(spec).items():
            table = tables[key] = self._numbers(f"text/{key}", dtype, (n_instructions, *shape))
            if dtype == torch.int64 and not bool(((table >= 0) & (table < spec.n_tokens)).all()):
                raise self._error(
                    f"text/{key}", f"holds tokens beyond those the policy knows, 0 to {spec.n_tokens - 1}"
                )
        return tables

    def state_of(self, index: int) -> dict[str, Tensor]:
        """Return the state of the step at an index, by its own names.

        Raises:
            CheckpointError: A number is not finite.
        """
        prefix = f"step/{index}/"
        found = {name: values for name, values in self.tensors.items() if name.startswith(prefix)}
        for name, values in found.items():
            if values.is_floating_point() and not bool(values.isfinite().all()):
                raise self._error(name, "holds numbers that are not finite; take another checkpoint or train again")
        return {name.removeprefix(prefix): values for name, values in found.items()}

    def refuse_surplus(self, names: Collection[str], texts: Collection[str]) -> None:
        """Refuse numbers that nothing reads: the file is another checkpoint's.

        Args:
            names: Of the tensors that were read.
            texts: Batch keys of what the saved instructions became.

        Raises:
            CheckpointError: Names the first.
        """
        known = {*names, *(f"text/{key}" for key in texts)}
        surplus = next((name for name in self.tensors if name not in known), None)
        if surplus is not None:
            raise self._error(surplus, "belongs to no feature of these processors; the files are of two checkpoints")

    def lacks(self, name: str) -> CheckpointError:
        """Return the error that a tensor is not there."""
        return CheckpointError(f"{self.source}: the numbers lack '{_shown(name)}'; the checkpoint is not whole.")

    def _numbers(self, name: str, dtype: torch.dtype, shape: tuple[int, ...], *, flat: bool = False) -> Tensor:
        """Return a tensor that is as it must be; `flat` takes any shape of that many numbers."""
        if name not in self.tensors:
            raise self.lacks(name)
        values = self.tensors[name]
        has_shape = values.numel() == prod(shape) if flat else tuple(values.shape) == shape
        if values.dtype != dtype or not has_shape:
            got, expected = (f"{kind} {list(sizes)}" for kind, sizes in ((values.dtype, values.shape), (dtype, shape)))
            raise self._error(name, f"is {got}, expected {expected}")
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise self._error(name, "holds numbers that are not finite; take another checkpoint or train again")
        return values

    def _refuse(self, name: str, values: Tensor, wrong: Tensor, names: Sequence[str], reason: str) -> None:
        if bool(wrong.any()):
            at = int(wrong.nonzero()[0])
            raise self._error(name, f"is {float(values[at]):g} for '{_shown(names[at])}', {reason}")

    def _error(self, name: str, sentence: str) -> CheckpointError:
        return CheckpointError(f"{self.source}: '{_shown(name)}' {sentence}.")


def check_feature(spec: FeatureSpec, key: str, source: str) -> None:
    """Refuse a saved feature under another's key, of a shape that its kind has not, or with too few or many names.

    Raises:
        CheckpointError: Says what was expected.
    """
    n_sizes = {"image": 3, "window": 2, "points": 2}.get(spec.kind, 1)
    if spec.key != key:
        raise CheckpointError(f"{source}: '{_shown(spec.key)}' stands under the key '{_shown(key)}'.")
    is_shape = len(spec.shape) == n_sizes and all(0 < size < 2**31 for size in spec.shape)
    if not is_shape or spec.shape[-1] != len(spec.names) or (spec.kind == "image" and spec.shape[-1] != 3):
        raise CheckpointError(
            f"{source}: '{_shown(spec.key)}' of kind {spec.kind} has the shape {list(spec.shape)[:8]} and "
            f"{len(spec.names)} names; expected {n_sizes} sizes of at least 1 and as many names as the last one says."
        )


def _text_forms(spec: TextSpec) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Return batch key → type and shape of what one instruction becomes."""
    if spec.form == "vector":
        return {VECTOR: (torch.float32, (spec.embedding_width,))}
    mask = {MASK: (torch.bool, (spec.length,))}
    if spec.is_tokens:
        return {TOKENS: (torch.int64, (spec.length,)), **mask}
    return {VECTORS: (torch.float32, (spec.length, spec.embedding_width)), **mask}


def mapped_names(spec: FeatureSpec) -> tuple[str, ...]:
    """Return the names of the numbers that have a normalisation of their own: a channel's, a field's, an action's."""
    return ("red", "green", "blue") if spec.kind == "image" else spec.names


def _shown(name: str) -> str:
    """Return a name out of a file as it may be printed."""
    text = name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}…"
    return text if text.isprintable() else repr(text)[1:-1]
