"""A policy as a learner: augmentation, its processors, its loss; validation by loss and by action error."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from vla_ros.policies import LossOutput, Policy
from vla_ros.policies.common.padding import without_padded_values
from vla_ros.processors import Processors
from vla_ros.training.augmentation import augment
from vla_ros.training.learner import Measured, Windows
from vla_ros.training.means import Means
from vla_ros.training.recipe import AugmentationOptions

UNAUGMENTED = "unaugmented"
"""Key, in a prepared batch, of the inputs that actions are relative to, as they were."""

ACTION_ERROR_BATCHES = 16
"""Batches on which whole predictions are made; policies that sample need many passes for one."""


class PolicyLearner:
    """Trains a policy by imitation.

    Args:
        policy: Its weights are trained in place.
        processors: On the same device.
        augmentation: Random changes to training observations; None makes none.

    Attributes:
        name: The policy's.
        device: The processors'.
    """

    def __init__(self, policy: Policy, processors: Processors, augmentation: AugmentationOptions | None = None) -> None:
        self.policy, self.processors = policy, processors
        self._augmentation = augmentation or AugmentationOptions()
        self.name = policy.name
        self.device = processors.device

    @property
    def module(self) -> nn.Module:
        """The policy."""
        return self.policy

    def prepare(self, raw: Mapping[str, Any], generator: torch.Generator | None) -> Mapping[str, Any]:
        """Return the batch augmented, where there is a generator and the options say so; not normalised yet."""
        if generator is None or not self._augmentation.changes_anything:
            return raw
        changed = augment(raw, self.processors, self._augmentation, generator)
        # what actions are relative to is where the robot was
        return {**changed, UNAUGMENTED: {key: raw[key] for key in self.processors.reads}}

    def loss(self, prepared: Mapping[str, Any], generator: torch.Generator) -> LossOutput:
        """Return the policy's loss on the normalised batch."""
        return self.policy.compute_loss(self.normalised(prepared), generator)

    @torch.no_grad()
    def measure(self, windows: Windows, batch_size: int, generator: torch.Generator) -> Measured:
        """Return mean loss and terms; errors are of predicted chunks, per action number, padded steps left out."""
        self.policy.eval()
        totals, error_sum, steps = Means(), torch.zeros(len(self.processors.action.names)), 0
        for number, first in enumerate(range(0, len(windows), batch_size)):
            indices = np.arange(first, min(first + batch_size, len(windows)))
            raw = windows.batch(indices)
            batch = self.normalised(raw)
            output = self.policy.compute_loss(batch, generator)
            totals.add({"loss": output.loss, **output.terms}, len(indices))
            if number < ACTION_ERROR_BATCHES:
                predicted = self.policy.predict_action_chunk(batch, generator=generator).actions.float()
                error = (self.processors.actions(predicted, raw).cpu() - torch.as_tensor(raw["action"])).abs()
                kept = ~torch.as_tensor(raw["action_is_pad"])
                error_sum += error[kept].sum(dim=0)
                steps += int(kept.sum())
        errors = (error_sum / max(steps, 1)).tolist()
        means = totals.means()
        return Measured(means.pop("loss"), means, dict(zip(self.processors.action.names, errors, strict=True)))

    def normalised(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return a raw batch as the policy takes it, with nothing in its padding."""
        batch = self.processors.batch(raw, raw.get(UNAUGMENTED))
        return without_padded_values(batch, self.processors.policy_inputs)
