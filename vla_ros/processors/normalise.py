"""Every feature at a size that a network likes, each number by an affine map fitted on the training data.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, h, w pixels.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vla_ros.processors.affine import DEGENERATE, Affine, affine_from_statistics
from vla_ros.processors.fitting import FitData
from vla_ros.processors.options import DEFAULT_ACTION, ProcessorOptions
from vla_ros.processors.saved import STATISTICS_KEPT, SavedNumbers, mapped_names
from vla_ros.processors.step import Batch, Features, ProcessorStep

BYTE = 255.0


class Normalise(ProcessorStep):
    """Maps every number of every feature, and turns images from bytes into channels-first floats.

    Attributes:
        maps: Key → map.
        statistics: What the maps were built from, in the space before this step: key → name → float64 tensor.
        constant: Key → names of numbers that never varied in the data and are only centred.
    """

    name: ClassVar[str] = "normalise"
    options_class: ClassVar[type] = ProcessorOptions
    options: ProcessorOptions

    def __init__(self, options: ProcessorOptions, before: Features) -> None:
        options.check_keys({*before.inputs, before.action.key})
        super().__init__(replace(options, action=options.action or DEFAULT_ACTION), before)
        self.maps: dict[str, Affine] = {}
        self.statistics: dict[str, dict[str, Tensor]] = {}
        self.constant: dict[str, tuple[str, ...]] = {}

    @property
    def changes(self) -> tuple[str, ...]:
        """Every feature."""
        return tuple(self.before.specs)

    def mode(self, key: str) -> str:
        """Return how a feature is mapped; ``unit_range`` of an image: its range is its format's, not that seen."""
        spec = self.before[key]
        mode = self.options.mode(spec)
        return "unit_range" if spec.kind == "image" and mode == "min_max" else mode

    def fit(self, data: FitData) -> None:
        """Build the maps.

        Raises:
            ConfigError: A mode is unknown, or a statistic that it needs is absent or not finite.
        """
        for key, spec in self.before.specs.items():
            names, statistics = mapped_names(spec), data.statistics(key)
            together = self.options.indices_together(spec) if spec is self.before.action else ()
            self.maps[key], constant = affine_from_statistics(self.mode(key), (len(names),), statistics, key, together)
            self.statistics[key] = kept(statistics)
            if constant.any():
                self.constant[key] = tuple(name for name, flat in zip(names, constant, strict=True) if flat)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the batch normalised; images float32 [B, T, 3, h, w], padded steps of the action 0."""
        changed = {}
        for key, spec in self.before.specs.items():
            if key in batch:
                image = spec.kind == "image"
                changed[key] = self._image(key, batch[key]) if image else self.maps[key].forward(batch[key].float())
        if self.before.action.key in changed and "action_is_pad" in batch:
            is_pad_BH1 = batch["action_is_pad"][..., None]
            changed[self.before.action.key] = changed[self.before.action.key].masked_fill(is_pad_BH1, 0.0)
        if "past_action" in batch:
            changed["past_action"] = self.maps[self.before.action.key].forward(batch["past_action"].float())
        return {**batch, **changed}

    def inverse(self, actions_BHA: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002  # maps do not depend on it
        """Return predicted actions in the units before this step.

        A number that never varied in the data is that constant: nothing was learnt of it.
        """
        still_A = self._still_action
        actions_BHA = self.maps[self.before.action.key].inverse(actions_BHA)
        if not still_A.any():
            return actions_BHA
        is_still_BHA = still_A.to(actions_BHA.device) & actions_BHA.isfinite()  # NaN says that the policy is broken
        return torch.where(is_still_BHA, self._still_values.to(actions_BHA.device), actions_BHA)

    def to(self, device: torch.device | str) -> None:
        """Move the maps."""
        self.maps = {key: affine.to(device) for key, affine in self.maps.items()}

    def load(self, saved: SavedNumbers, constant: Mapping[str, tuple[str, ...]], fitted: Mapping[str, str]) -> None:
        """Take up saved maps as they are; nothing is computed again.

        Args:
            saved: The numbers.
            constant: As the attribute.
            fitted: Key → where the statistics of its map are: ``statistics``, or ``fitted`` behind other steps.

        Raises:
            CheckpointError: Something is missing, does not fit, or is a number that no training makes.
        """
        self.constant = dict(constant)
        for key, spec in self.before.specs.items():
            names, flat = mapped_names(spec), self.constant.get(key, ())
            self.maps[key] = saved.map(spec, names)
            self.statistics[key] = saved.statistics(spec, names, self.mode(key), flat, fitted[key])

    def summary(self) -> str:
        """Name the mode of every feature."""
        return ", ".join(f"{key} by {self.options.mode(spec)}" for key, spec in self.before.specs.items())

    @cached_property
    def _still_action(self) -> Tensor:
        """Which numbers of the action never varied, bool [A].

        One that varied outside its quantiles only, as a gripper that rarely opens, did.
        """
        action = self.before.action
        constant, statistics = self.constant.get(action.key, ()), self.statistics[action.key]
        still_A = torch.tensor([name in constant for name in action.names])
        if {"min", "max"} <= statistics.keys():
            low_A, high_A = statistics["min"].flatten(), statistics["max"].flatten()
            still_A &= high_A - low_A <= DEGENERATE * torch.maximum(low_A.abs(), torch.ones(()))
        return still_A

    @cached_property
    def _still_values(self) -> Tensor:
        """What numbers of the action that never varied are, float32 [A]; of others nothing is asked."""
        action = self.before.action
        values_A = self.maps[action.key].offset.cpu()
        together = list(self.options.indices_together(action))
        if together:  # those are never centred
            values_A = values_A.clone()
            values_A[together] = self.statistics[action.key]["min"].flatten()[together].float()
        return values_A

    def _image(self, key: str, image_BThw3: Tensor) -> Tensor:
        # (x / 255 - offset) / scale as one multiplication and one addition, over rows of w·3 numbers: images are most
        # of the work here, and a loop over three channels innermost would be several times slower.
        image_BThw3 = image_BThw3.float()
        affine, width = self.maps[key], image_BThw3.shape[3]
        factor_W = (1.0 / (BYTE * affine.scale)).repeat(width)
        shift_W = (affine.offset / affine.scale).repeat(width)
        normalised_BThw3 = image_BThw3.flatten(3).mul(factor_W).sub_(shift_W).view(image_BThw3.shape)
        # A permuted view: convolutions get channels-last memory, which they prefer, without a copy.
        return normalised_BThw3.permute(0, 1, 4, 2, 3)


def kept(statistics: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
    """Return those statistics that a checkpoint keeps, as float64 tensors."""
    return {
        name: torch.from_numpy(np.array(statistics[name], dtype=np.float64, order="C", copy=True))
        for name in STATISTICS_KEPT
        if name in statistics
    }
