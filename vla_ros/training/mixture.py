"""Several robots' datasets as one: windows drawn by weight, each robot normalised by its own statistics. No files.

A policy of several robots has an input for whatever any of them has, and actions as wide as the widest's; what a robot
lacks is masked (`vla_ros.processors.slots`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.policies import LossOutput, Policy
from vla_ros.processors import ProcessorOptions, Processors, Slots
from vla_ros.training.learner import Measured, Windows
from vla_ros.training.policy_learner import PolicyLearner
from vla_ros.training.recipe import AugmentationOptions


@dataclass(frozen=True)
class RobotFeatures:
    """What one robot's dataset has of a recipe's inputs.

    Attributes:
        name: The dataset's, in the recipe.
        sources: The recipe's keys → the robot's, for inputs that it has.
        inputs: The robot's features, by its keys.
        action: Its action.
    """

    name: str
    sources: Mapping[str, str]
    inputs: Mapping[str, FeatureSpec]
    action: FeatureSpec


def shared_features(
    keys: Sequence[str], robots: Sequence[RobotFeatures], options: ProcessorOptions
) -> tuple[dict[str, FeatureSpec], FeatureSpec]:
    """Return the inputs and the action of a policy of several robots; numbers are named as the first robot's.

    Args:
        keys: The recipe's inputs.
        robots: The first one is whose checkpoint it will be.
        options: To what size images are brought.

    Raises:
        ConfigError: No robot has an input, or two have it in forms that padding does not make alike.
    """
    inputs = {}
    for key in keys:
        found = {robot.name: robot.inputs[robot.sources[key]] for robot in robots if key in robot.sources}
        if not found:
            raise ConfigError(f"recipe: mixture: no dataset has the input '{key}'; remove it.")
        specs = list(options.resized({name: replace(spec, key=key) for name, spec in found.items()}).values())
        _check_alike(key, dict(zip(found, specs, strict=True)))
        missing = [robot.name for robot in robots if key not in robot.sources]
        if missing and specs[0].kind != "image":
            raise ConfigError(
                f"recipe: mixture: dataset '{missing[0]}' is without '{key}'; only cameras may be missing."
            )
        inputs[key] = _widest(specs) if specs[0].kind == "vector" else specs[0]
    return inputs, _widest([robot.action for robot in robots])


def _check_alike(key: str, specs: Mapping[str, FeatureSpec]) -> None:
    (first, spec), *others = specs.items()
    for name, other in others:
        if other.kind != spec.kind or (spec.kind != "vector" and other.shape != spec.shape):
            hint = "set normalisation.image_size" if spec.kind == other.kind == "image" else "name another in its keys"
            raise ConfigError(
                f"recipe: mixture: '{key}' is {spec.kind} {list(spec.shape)} in '{first}' and {other.kind} "
                f"{list(other.shape)} in '{name}'; {hint}."
            )


def _widest(specs: Sequence[FeatureSpec]) -> FeatureSpec:
    width = max(spec.shape[0] for spec in specs)
    first = specs[0]
    names = (*first.names, *(f"padding_{number}" for number in range(len(first.names), width)))
    return replace(first, shape=(width,), names=names)


def slots_of(robot: RobotFeatures, inputs: Mapping[str, FeatureSpec], action: FeatureSpec) -> Slots:
    """Return a robot's place in a policy with these inputs and this action."""
    return Slots(dict(inputs), action, dict(robot.sources))


class MixedWindows:
    """Windows of several datasets; an epoch has as many as all have together, drawn by weight.

    Args:
        parts: Windows of each dataset.
        weights: Ratio in which their windows are trained on, in any unit; a dataset is gone through again, in another
            order, when an epoch takes more windows of it than it has.
    """

    def __init__(self, parts: Sequence[Windows], weights: Sequence[float]) -> None:
        self.parts, self._weights = tuple(parts), np.asarray(weights, np.float64)
        lengths = [len(part) for part in self.parts]
        self._first = np.cumsum([0, *lengths])

    def __len__(self) -> int:
        """Return the number of windows of all datasets."""
        return int(self._first[-1])

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return an epoch's windows; each dataset's number of them differs from its weight by less than one."""
        counts = _apportioned(self._weights, len(self))
        chosen = [
            np.concatenate([part.order(rng) for _ in range(-(-count // len(part)))])[:count] + first
            for part, count, first in zip(self.parts, counts, self._first, strict=False)
            if count
        ]
        return rng.permutation(np.concatenate(chosen))

    def batch(self, indices: NDArray[np.integer[Any]]) -> dict[str, Any]:
        """Return ``rows``, dataset → places in the batch [b], and ``raw``, dataset → its windows [b, ...]."""
        owner = np.searchsorted(self._first, indices, side="right") - 1
        rows = {part: np.flatnonzero(owner == part) for part in np.unique(owner).tolist()}
        raw = {part: self.parts[part].batch(indices[own] - self._first[part]) for part, own in rows.items()}
        return {"rows": rows, "raw": raw}


def _apportioned(weights: NDArray[np.float64], total: int) -> list[int]:
    """Return whole numbers in the ratio of the weights that add up to `total`, by largest remainder."""
    exact = weights / weights.sum() * total
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


class MixedLearner:
    """Trains one policy on several robots.

    Args:
        policy: Its weights are trained in place.
        robots: Name → processors, on the policy's device.
        weights: As in `MixedWindows`.
        augmentation: Random changes to training observations.

    Attributes:
        name: The policy's.
        device: Where its weights are.
    """

    def __init__(
        self,
        policy: Policy,
        robots: Mapping[str, Processors],
        weights: Sequence[float],
        augmentation: AugmentationOptions,
    ) -> None:
        self.name, self.policy = policy.name, policy
        self._learners = {name: PolicyLearner(policy, own, augmentation) for name, own in robots.items()}
        self._weights = np.asarray(weights, np.float64) / np.sum(weights)
        self.device = next(iter(robots.values())).device

    @property
    def module(self) -> nn.Module:
        """The policy."""
        return self.policy

    def prepare(self, raw: Mapping[str, Any], generator: torch.Generator | None) -> dict[str, Any]:
        """Return the batch with each robot's part augmented; as `MixedWindows.batch` gave it."""
        learners = list(self._learners.values())
        return {**raw, "raw": {part: learners[part].prepare(own, generator) for part, own in raw["raw"].items()}}

    def loss(self, prepared: Mapping[str, Any], generator: torch.Generator) -> LossOutput:
        """Return the policy's loss on all rows together, each normalised by its robot's statistics."""
        return self.policy.compute_loss(self._joined(prepared), generator)

    def measure(self, windows: Windows, batch_size: int, generator: torch.Generator) -> Measured:
        """Return the mean loss by weight, each robot's terms and action errors under ``<dataset>/<name>``."""
        if not isinstance(windows, MixedWindows):
            raise TypeError("a mixture is measured on mixed windows")
        terms: dict[str, float] = {}
        errors: dict[str, float] = {}
        total = 0.0
        for (name, learner), part, weight in zip(self._learners.items(), windows.parts, self._weights, strict=True):
            own = learner.measure(part, batch_size, generator)
            total += float(weight) * own.loss
            terms |= {f"{name}/{term}": value for term, value in {"loss": own.loss, **own.terms}.items()}
            errors |= {f"{name}/{number}": value for number, value in own.errors.items()}
        return Measured(total, terms, errors)

    def _joined(self, prepared: Mapping[str, Any]) -> dict[str, Any]:
        learners = list(self._learners.values())
        batches = [learners[part].normalised(own) for part, own in prepared["raw"].items()]
        places = np.argsort(np.concatenate(list(prepared["rows"].values())), kind="stable")
        order = torch.from_numpy(places).to(self.device)
        joined: dict[str, Any] = {}
        for key in batches[0]:
            values = [batch[key] for batch in batches]
            if isinstance(values[0], Tensor):
                joined[key] = torch.cat(values)[order]
            else:
                rows = [value for own in values for value in own]
                joined[key] = [rows[place] for place in places]
        return joined
