"""A step between robot and policy: actions whose numbers no longer go together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from vla_ros.data_types import CheckpointError
from vla_ros.processors import FitData, ProcessorStep
from vla_ros.schema import About, Checked


@dataclass(frozen=True, kw_only=True)
class WhitenOptions(Checked):
    """Options of `Whiten`."""

    smallest: Annotated[float, About("Deviation below which an axis is left alone.", above=0)] = 1e-6


class Whiten(ProcessorStep):
    """Turns actions into the axes along which they vary, and scales each to unit deviation."""

    name: ClassVar[str] = "example_whiten"
    options_class: ClassVar[type] = WhitenOptions
    options: WhitenOptions
    axes: Tensor  # float32 [A, A]; actions times it are white

    @property
    def changes(self) -> tuple[str, ...]:
        """The action."""
        return (self.before.action.key,)

    def fit(self, data: FitData) -> None:
        """Find the axes in the actions as they are before this step."""
        key = self.before.action.key
        rows = [batch[key][~batch["action_is_pad"]].double().numpy() for batch in data.batches([key])]
        spreads, axes = np.linalg.eigh(np.cov(np.concatenate(rows), rowvar=False))
        deviation = np.sqrt(np.maximum(spreads, 0.0))
        scale = np.where(deviation > self.options.smallest, deviation, 1.0)
        self.axes = torch.from_numpy(axes / scale).float()

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return the batch with white actions."""
        keys = (self.before.action.key, "past_action")
        return {**batch, **{key: batch[key] @ self.axes for key in keys if key in batch}}

    def inverse(self, actions_BHA: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """Return actions along the robot's own axes."""
        return actions_BHA @ torch.linalg.inv(self.axes)

    def state(self) -> dict[str, Tensor]:
        """Return the axes."""
        return {"axes": self.axes}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up the axes."""
        size = self.before.action.shape[0]
        if set(tensors) != {"axes"} or tensors["axes"].shape != (size, size):
            raise CheckpointError(f"processor '{self.name}': expected 'axes' of [{size}, {size}].")
        self.axes = tensors["axes"]

    def to(self, device: torch.device | str) -> None:
        """Move the axes."""
        self.axes = self.axes.to(device)

    def summary(self) -> str:
        """Say what is done."""
        return "action along uncorrelated axes"
