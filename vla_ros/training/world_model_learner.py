"""A world model as a learner: sequences with rewards, its loss; validation by what it imagines."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vla_ros.policies import LossOutput
from vla_ros.processors import Processors
from vla_ros.training.learner import Measured, Windows
from vla_ros.training.means import Means
from vla_ros.training.policy_learner import PolicyLearner
from vla_ros.training.recipe import AugmentationOptions
from vla_ros.world_models import IS_LAST, REWARD, WorldModelPolicy, open_loop

CONTEXT = 5
"""Frames seen before imagination begins."""
AHEAD = (1, 5, 10, 20, 30)
"""Ticks after them at which what is imagined is compared, as far as sequences reach."""
OPEN_LOOP_BATCHES = 8


class WorldModelLearner(PolicyLearner):
    """Trains a world model on sequences of demonstrations.

    Args:
        policy: Its weights are trained in place.
        processors: On the same device.
        augmentation: Random changes to training observations.

    Attributes:
        world_model: The policy.
    """

    def __init__(self, policy: WorldModelPolicy, processors: Processors, augmentation: AugmentationOptions) -> None:
        super().__init__(policy, processors, augmentation)
        self.world_model = policy

    def loss(self, prepared: Mapping[str, Any], generator: torch.Generator) -> LossOutput:
        """Return the world model's loss on the normalised sequences."""
        return self.policy.compute_loss(self._batch(prepared), generator)

    @torch.no_grad()
    def measure(self, windows: Windows, batch_size: int, generator: torch.Generator) -> Measured:
        """Return mean loss and terms, among them the error of imagination beside that of repeating the last frame.

        ``open_loop_K`` is the mean squared error, in normalised numbers, of what is decoded K ticks after the context,
        over sequences without padding; ``copy_last_K`` that of the context's last frame.
        """
        self.policy.eval()
        totals, imagined = Means(), Means()
        for number, first in enumerate(range(0, len(windows), batch_size)):
            indices = np.arange(first, min(first + batch_size, len(windows)))
            batch = self._batch(windows.batch(indices))
            output = self.policy.compute_loss(batch, generator)
            totals.add({"loss": output.loss, **output.terms}, len(indices))
            whole = ~batch["is_pad"].any(dim=1)
            if number < OPEN_LOOP_BATCHES and bool(whole.any()):
                rows = {key: value[whole] for key, value in batch.items() if isinstance(value, Tensor)}
                imagined.add(self._open_loop(rows), int(whole.sum()))
        means = totals.means()
        return Measured(means.pop("loss"), means | imagined.means())

    def _open_loop(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        frames = batch["is_pad"].shape[1]
        context = min(CONTEXT, frames - 1)
        decoded = open_loop(self.world_model, batch, context)
        result: dict[str, Tensor] = {}
        for ahead in (ahead for ahead in AHEAD if context - 1 + ahead < frames):
            place = context - 1 + ahead
            pairs = [(decoded[key], batch[key]) for key in self.world_model.config.inputs]
            result[f"open_loop_{ahead}"] = _mean([(own[:, place] - seen[:, place]).square() for own, seen in pairs])
            result[f"copy_last_{ahead}"] = _mean([(s[:, context - 1] - s[:, place]).square() for _, s in pairs])
        return result

    def _batch(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        batch = self.normalised(raw)
        progress = torch.as_tensor(raw["progress"]).to(self.device)
        is_last = progress >= 1.0
        reward = progress if self.world_model.config.reward == "progress" else is_last.float()
        return {**batch, REWARD: reward, IS_LAST: is_last}


def _mean(squares: list[Tensor]) -> Tensor:
    """Return the mean over all kinds of input, each counted once."""
    return torch.stack([square.mean() for square in squares]).mean()
