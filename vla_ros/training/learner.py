"""What the trainer trains: a loss over batches and a measurement, whatever is behind them. No loop, no files.

A policy learns by `vla_ros.training.policy_learner`; a world model, or anything else with weights, trains by the same
loop once it is one of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vla_ros.policies import LossOutput


class Windows(Protocol):
    """Windows over episodes, as `vla_ros.datasets.WindowSampler` gives them."""

    def __len__(self) -> int:
        """Return how many there are."""

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the windows of one epoch in the order in which they are trained on."""

    def batch(self, indices: NDArray[np.integer[Any]]) -> dict[str, Any]:
        """Return the windows of these indices, not normalised, each with a leading axis B; called by threads."""


@dataclass(frozen=True)
class Measured:
    """What validation found.

    Attributes:
        loss: Mean loss over all windows; what `keep_best` and the plateau schedule go by.
        terms: Mean of each of its terms.
        errors: Name → mean absolute error in physical units.
    """

    loss: float
    terms: Mapping[str, float] = field(default_factory=dict)
    errors: Mapping[str, float] = field(default_factory=dict)


class Learner(Protocol):
    """Something with weights that learns from windows.

    Attributes:
        name: What it is, for messages and titles.
        device: Where its weights are.
    """

    name: str
    device: torch.device

    @property
    def module(self) -> nn.Module:
        """Its weights, trained in place."""

    def prepare(self, raw: Mapping[str, Any], generator: torch.Generator | None) -> Any:
        """Return a batch ready for `loss`, as far as that can be done in another thread.

        Args:
            raw: As `Windows.batch` gave it; left as it is.
            generator: On the CPU: source of chance for augmentation. None: nothing is augmented.
        """

    def loss(self, prepared: Any, generator: torch.Generator) -> LossOutput:
        """Return the loss of a batch that `prepare` made, to be differentiated.

        Args:
            prepared: The batch.
            generator: On `device`: source of sampling noise.
        """

    def measure(self, windows: Windows, batch_size: int, generator: torch.Generator) -> Measured:
        """Return what it is worth on windows; changes no weight and leaves `module` in eval mode."""
