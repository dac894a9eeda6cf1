"""How one robot's features fill the inputs of a policy that is trained on several robots. No statistics.

The policy has an input for whatever any of the robots has, and actions as wide as the widest robot's. A robot that has
less leaves numbers at zero, which is the mean where a feature is normalised by its mean, and cameras unseen; masks say
which, so that neither enters a loss, an attention or an action.

Axis legend: B batch, T n_obs_steps, H action_horizon, A the policy's action_dim, h, w pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError
from vla_ros.schema import Section, read_dataclass, to_plain

ACTION_DIM_IS_PAD = "action_dim_is_pad"
"""Batch key of bool [B, A], True for numbers of the action that the sample's robot does not have."""
ABSENT = ".is_absent"
"""Behind an image's key: batch key of bool [B], True where the sample's robot has no such camera."""


@dataclass(frozen=True)
class Slots:
    """One robot's place in a policy of several.

    Attributes:
        inputs: The policy's inputs, by its keys; images at the size that it sees.
        action: The policy's action.
        sources: The policy's keys → the robot's, for those that the robot has.
    """

    inputs: Mapping[str, FeatureSpec]
    action: FeatureSpec
    sources: Mapping[str, str]

    def observation(self, batch: Mapping[str, Any], robot_action_dim: int) -> dict[str, Any]:
        """Return a normalised batch of the robot as the policy takes it.

        Args:
            batch: Robot's key → tensor; other entries pass.
            robot_action_dim: How many numbers the robot's action has.
        """
        like = next(batch[key] for key in self.sources.values() if key in batch)
        result = {key: value for key, value in batch.items() if key not in self.sources.values()}
        for key, spec in self.inputs.items():
            source = self.sources.get(key)
            if spec.kind == "image":
                result[key + ABSENT] = torch.full((len(like),), source is None, device=like.device)
            if source is None:
                height, width, channels = spec.shape
                result[key] = like.new_zeros(*like.shape[:2], channels, height, width)
            elif source in batch:
                result[key] = _widened(batch[source], spec.shape[-1]) if spec.kind == "vector" else batch[source]
        padding_A = torch.arange(self.action.shape[0], device=like.device) >= robot_action_dim
        result[ACTION_DIM_IS_PAD] = padding_A.expand(len(like), -1)
        return result

    def widened_action(self, action: Tensor) -> Tensor:
        """Return the robot's normalised actions [..., its numbers] with zeros up to the policy's, [..., A]."""
        return _widened(action, self.action.shape[0])

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for YAML."""
        return {
            "inputs": to_plain(dict(self.inputs)),
            "action": to_plain(self.action),
            "sources": dict(self.sources),
        }

    @classmethod
    def from_dict(cls, section: Section, robot_inputs: Mapping[str, FeatureSpec], action: FeatureSpec) -> "Slots":
        """Rebuild what was saved.

        Args:
            section: As `to_dict` made it.
            robot_inputs: The robot's features.
            action: The robot's action.

        Raises:
            CheckpointError: They do not fit the robot's features.
        """
        nested = section.section("inputs")
        inputs = {key: read_dataclass(nested.section(key), FeatureSpec) for key in nested.content}
        widest = read_dataclass(section.section("action"), FeatureSpec)
        named = section.section("sources")
        sources = {key: named.scalar(key, str) for key in named.content}
        section.finish()
        if not set(sources) <= set(inputs) or set(sources.values()) != set(robot_inputs) or not sources:
            raise CheckpointError(f"{section.source}: slots: their sources are not the robot's features.")
        if len(widest.shape) != 1 or widest.shape[0] < action.shape[0]:
            raise CheckpointError(f"{section.source}: slots: the policy's action is narrower than the robot's.")
        return cls(inputs, widest, sources)


def _widened(values: Tensor, width: int) -> Tensor:
    """Return values [..., W] with zeros up to `width`."""
    return functional.pad(values, (0, width - values.shape[-1]))
