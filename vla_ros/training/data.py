"""A recipe's dataset, opened: features, statistics, episodes and windows. No policy, no loop."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.contract import GOAL_IMAGE, FeatureSpec, RobotContract, contract_differences, load_contract
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.datasets import EpisodeDataset, WindowSampler, check_fits, split_episodes
from vla_ros.policies import PolicyConfig
from vla_ros.training.recipe import Recipe

_GB = 1_000_000_000


@dataclass(frozen=True)
class TrainingData:
    """An open dataset, as far as a recipe uses it.

    Attributes:
        dataset: The dataset.
        contract: What its numbers mean.
        inputs: Features that the policy sees, as the contract has them.
        action: The action feature.
        statistics: Feature key → statistic → values, of the training episodes.
        training, validation: Episode numbers.
    """

    dataset: EpisodeDataset
    contract: RobotContract
    inputs: dict[str, FeatureSpec]
    action: FeatureSpec
    statistics: Mapping[str, Mapping[str, Any]]
    training: tuple[int, ...]
    validation: tuple[int, ...]

    def summary(self) -> dict[str, Any]:
        """Return what a checkpoint remembers of it."""
        return {
            "name": self.dataset.root.name,
            "fingerprint": self.dataset.fingerprint(),
            "training_episodes": len(self.training),
            "validation_episodes": len(self.validation),
            "frames": sum(self.dataset.lengths),
        }


def open_data(recipe: Recipe) -> TrainingData:
    """Open the dataset of a recipe.

    Raises:
        UserError: It cannot be read, has no contract, or lacks an input.
    """
    dataset = EpisodeDataset(recipe.dataset.root)
    contract = _contract(recipe, dataset)
    features = contract.policy_features
    action = features.pop("action")
    stored = {key: contract.goal.camera if contract.goal and key == GOAL_IMAGE else key for key in features}
    for index, key in enumerate(recipe.inputs):
        if stored.get(key) not in dataset.features:
            known = [name for name, source in stored.items() if source in dataset.features]
            hint = nearest_name(key, known)
            if key == GOAL_IMAGE and contract.goal is None:
                hint = f" {contract.source} has no 'goal': add one, or name a contract that has in dataset.contract."
            raise ConfigError(
                f"recipe: inputs[{index}] '{key}' is not an observation of {dataset.root}: {', '.join(known)}.{hint}"
            )
    training, validation = split_episodes(dataset.n_episodes, recipe.dataset.validation_fraction, recipe.seed)
    inputs = {key: features[key] for key in recipe.inputs}
    # of the training episodes only: validation must not leak into what the policy sees
    statistics = dict(dataset.statistics(training))
    if GOAL_IMAGE in inputs:
        statistics[GOAL_IMAGE] = statistics[stored[GOAL_IMAGE]]  # a frame of that camera, normalised as its others
    return TrainingData(dataset, contract, inputs, action, statistics, training, validation)


def _contract(recipe: Recipe, dataset: EpisodeDataset) -> RobotContract:
    if not dataset.contract_path.is_file() and recipe.dataset.contract is not None:
        contract = load_contract(recipe.dataset.contract)
        stored = [key for key in recipe.inputs if key in contract.features]
        check_fits(dataset, contract, stored)
        return contract
    own = dataset.contract()
    if recipe.dataset.contract is None:
        return own
    contract = load_contract(recipe.dataset.contract)
    if contract.hash != own.hash:
        differences = "; ".join(contract_differences(own, contract))
        raise ConfigError(
            f"recipe: dataset.contract {recipe.dataset.contract} gives numbers another meaning than those of "
            f"{dataset.root} have: {differences}."
        )
    return contract


class OpenWindows:
    """Windows of a dataset's training and validation episodes, in the sizes that a policy wants.

    Args:
        recipe: How much may be cached, and where.
        config: The policy's.
        data: The open dataset.

    Attributes:
        training: Windows to learn from.
        validation: Windows to measure on; None without validation.
    """

    def __init__(self, recipe: Recipe, config: PolicyConfig, data: TrainingData) -> None:
        self._folder, self._config, self._data = Path(recipe.output), config, data
        frames = {
            episodes: sum(data.dataset.lengths[i] for i in episodes) for episodes in (data.training, data.validation)
        }
        # as a share of the frames: both are read once an epoch
        self._bytes_of_frame = recipe.dataset.cache_gb * _GB / sum(frames.values())
        self.training = self._windows(data.training)
        self.validation = self._windows(data.validation) if data.validation else None

    @property
    def instructions(self) -> tuple[str, ...]:
        """All instructions of the training and validation episodes."""
        held_out = () if self.validation is None else self.validation.instructions
        return tuple(dict.fromkeys((*self.training.instructions, *held_out)))

    def close(self) -> None:
        """Close files and free the disk."""
        self.training.close()
        if self.validation is not None:
            self.validation.close()

    def _windows(self, episodes: tuple[int, ...]) -> WindowSampler:
        data, config = self._data, self._config
        keys = [key for key in data.inputs if key != GOAL_IMAGE]
        goal = data.contract.goal if GOAL_IMAGE in data.inputs else None
        frames = sum(data.dataset.lengths[index] for index in episodes)
        return WindowSampler(
            data.dataset,
            episodes,
            keys,
            config.n_obs_steps,
            config.action_horizon,
            past_action=config.needs_past_action,
            goal_camera=None if goal is None else goal.camera,
            shapes={key: data.contract.features[key].shape for key in (*keys, "action")},
            cache_folder=self._folder,
            cache_bytes=int(self._bytes_of_frame * frames),
        )
