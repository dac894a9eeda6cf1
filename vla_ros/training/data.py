"""A recipe's datasets, opened: features, statistics, episodes and windows. No policy, no loop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.contract import GOAL_IMAGE, FeatureSpec, RobotContract, contract_differences, load_contract
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.datasets import EpisodeDataset, WindowSampler, check_fits, split_episodes
from vla_ros.policies import PolicyConfig
from vla_ros.training.mixture import RobotFeatures
from vla_ros.training.recipe import Recipe

_GB = 1_000_000_000
_FITTED_AT_ONCE = 1024


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


@dataclass(frozen=True)
class RobotData:
    """One robot's dataset in a recipe.

    Attributes:
        name: The robot's type for the recipe's own dataset, else the name in its mixture.
        weight: Of its windows.
        data: The open dataset.
        sources: Entries of the recipe's inputs → this robot's keys, for those that it has.
    """

    name: str
    weight: float
    data: TrainingData
    sources: Mapping[str, str]

    @property
    def features(self) -> RobotFeatures:
        """What it has of the recipe's inputs."""
        return RobotFeatures(self.name, self.sources, self.data.inputs, self.data.action)


def open_robots(recipe: Recipe) -> tuple[RobotData, ...]:
    """Open the datasets of a recipe, its own first.

    Raises:
        UserError: One cannot be read, has no contract, or lacks an input; or two have one name.
    """
    own = recipe.dataset
    sources = {key: key for key in recipe.inputs if key not in own.without}
    data = _open(recipe, own.root, own.contract, "dataset.contract", sources)
    robots = [RobotData(data.contract.robot_type, own.weight, data, sources)]
    for name, mixed in recipe.mixture.items():
        if name == robots[0].name:
            raise ConfigError(f"recipe: mixture: '{name}' is the robot of dataset already; choose another name.")
        place = f"mixture.{name}.contract"
        sources = {key: mixed.keys.get(key, key) for key in recipe.inputs if key not in mixed.without}
        data = _open(recipe, mixed.root, mixed.contract, place, sources)
        robots.append(RobotData(name, mixed.weight, data, sources))
    return tuple(robots)


def _open(recipe: Recipe, root: str, contract_file: str | None, place: str, sources: Mapping[str, str]) -> TrainingData:
    dataset = EpisodeDataset(root)
    contract = _contract(dataset, contract_file, place, tuple(sources.values()))
    features = contract.policy_features
    action = features.pop("action")
    stored = {key: contract.goal.camera if contract.goal and key == GOAL_IMAGE else key for key in features}
    for entry, key in sources.items():
        if stored.get(key) not in dataset.features:
            known = [name for name, source in stored.items() if source in dataset.features]
            hint = nearest_name(key, known)
            if key == GOAL_IMAGE and contract.goal is None:
                hint = f" {contract.source} has no 'goal': add one, or name a contract that has in {place}."
            elif recipe.mixture:
                hint += " A camera that this robot does not have is listed in `without`."
            raise ConfigError(
                f"recipe: inputs[{recipe.inputs.index(entry)}] '{key}' is not an observation of {dataset.root}: "
                f"{', '.join(known)}.{hint}"
            )
    training, validation = split_episodes(dataset.n_episodes, recipe.dataset.validation_fraction, recipe.seed)
    # a camera's calibration, of the images as they are stored, lies in the dataset
    inputs = {
        key: replace(features[key], camera_info=dataset.features[stored[key]].camera_info) for key in sources.values()
    }
    # of the training episodes only: validation must not leak into what the policy sees
    statistics = dict(dataset.statistics(training))
    if GOAL_IMAGE in inputs:
        statistics[GOAL_IMAGE] = statistics[stored[GOAL_IMAGE]]  # a frame of that camera, normalised as its others
    return TrainingData(dataset, contract, inputs, action, statistics, training, validation)


def _contract(dataset: EpisodeDataset, contract_file: str | None, place: str, inputs: Sequence[str]) -> RobotContract:
    if not dataset.contract_path.is_file() and contract_file is not None:
        contract = load_contract(contract_file)
        stored = [key for key in inputs if key in contract.features]
        check_fits(dataset, contract, stored)
        return contract
    own = dataset.contract()
    if contract_file is None:
        return own
    contract = load_contract(contract_file)
    if contract.hash != own.hash:
        differences = "; ".join(contract_differences(own, contract))
        raise ConfigError(
            f"recipe: {place} {contract_file} gives numbers another meaning than those of {dataset.root} have: "
            f"{differences}."
        )
    return contract


def cache_bytes_of_frame(recipe: Recipe, robots: Sequence[RobotData]) -> float:
    """Return a recipe's limit of the cache for one frame of its datasets: all of them are read as often."""
    frames = sum(robot.data.dataset.n_frames for robot in robots)
    return recipe.dataset.cache_gb * _GB / max(1, frames)


def numeric_windows(config: PolicyConfig, data: TrainingData, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Iterate over all training windows, with the action and some inputs that are no images: what steps are fitted on.

    Args:
        config: The policy's, which says how many frames and actions a window has.
        data: The open dataset.
        keys: Of the inputs.
    """
    shapes = {key: data.contract.features[key].shape for key in (*keys, data.action.key)}
    sampler = WindowSampler(data.dataset, data.training, keys, config.n_obs_steps, config.action_horizon, shapes=shapes)
    try:
        for first in range(0, len(sampler), _FITTED_AT_ONCE):
            yield sampler.batch(np.arange(first, min(first + _FITTED_AT_ONCE, len(sampler))))
    finally:
        sampler.close()


class OpenWindows:
    """Windows of a dataset's training and validation episodes, in the sizes that a policy wants.

    Args:
        recipe: Where its output is; frames are cached there.
        config: The policy's.
        data: The open dataset.
        bytes_of_frame: How much of the disk the cache may take, for each frame of the dataset.

    Attributes:
        training: Windows to learn from.
        validation: Windows to measure on; None without validation.
    """

    def __init__(self, recipe: Recipe, config: PolicyConfig, data: TrainingData, bytes_of_frame: float) -> None:
        self._folder, self._config, self._data = Path(recipe.output), config, data
        self._bytes_of_frame = bytes_of_frame
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
            config.training_frames,
            config.action_horizon,
            past_action=config.needs_past_action,
            progress=config.needs_progress,
            goal_camera=None if goal is None else goal.camera,
            shapes={key: data.contract.features[key].shape for key in (*keys, "action")},
            cache_folder=self._folder,
            cache_bytes=int(self._bytes_of_frame * frames),
        )
