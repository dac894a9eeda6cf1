"""From a recipe and its open datasets to the policy, its processors and the trainer. No files, no loop."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial

import torch

from vla_ros.contract import GOAL_IMAGE
from vla_ros.data_types import ConfigError
from vla_ros.policies import Policy, PolicyConfig, current_policy, options_of, policy_class, policy_config
from vla_ros.policies.common.action_scaling import check_relative, with_motion_of, with_scaling_of
from vla_ros.processors import ProcessorOptions, Processors, ProcessorStep, build_steps
from vla_ros.training.data import OpenWindows, RobotData, numeric_windows
from vla_ros.training.learner import Learner
from vla_ros.training.mixture import MixedLearner, MixedWindows, RobotFeatures, shared_features, slots_of
from vla_ros.training.policy_learner import PolicyLearner
from vla_ros.training.progress import TrainingProgress
from vla_ros.training.recipe import Recipe
from vla_ros.training.trainer import Trainer
from vla_ros.training.world_model_learner import WorldModelLearner
from vla_ros.world_models import WorldModelPolicy


@dataclass(frozen=True)
class Assembled:
    """What a recipe trains.

    Attributes:
        robots: The datasets; the checkpoint is for the first one's robot.
        policy: With fresh weights, on the recipe's device.
        processors: Of each robot, in the same order.
    """

    robots: Sequence[RobotData]
    policy: Policy
    processors: Sequence[Processors]


def assemble(recipe: Recipe, robots: Sequence[RobotData]) -> Assembled:
    """Build the policy and each robot's processors.

    Raises:
        ConfigError: The recipe does not fit the data, or an architecture cannot be trained on these robots together.
    """
    config = _policy_config(recipe, robots)
    processors = _processors(recipe, config, robots)
    return Assembled(robots, _build(recipe, config, processors), processors)


def build_trainer(
    recipe: Recipe, built: Assembled, windows: Sequence[OpenWindows], progress: TrainingProgress
) -> Trainer:
    """Return the trainer of a policy, of one robot or of several.

    Args:
        recipe: What to do.
        built: The policy and what belongs to it.
        windows: Of each robot's dataset.
        progress: Told what happens.
    """
    if len(built.robots) == 1:
        learner = _learner(recipe, built.policy, built.processors[0])
        own = windows[0]
        return Trainer(recipe, learner, training=own.training, validation=own.validation, progress=progress)
    weights = [robot.weight for robot in built.robots]
    by_name = {robot.name: own for robot, own in zip(built.robots, built.processors, strict=True)}
    mixed = MixedLearner(built.policy, by_name, weights, recipe.augmentation)
    held_out = [own.validation for own in windows if own.validation is not None]
    validation = MixedWindows(held_out, weights) if held_out else None
    training = MixedWindows([own.training for own in windows], weights)
    return Trainer(recipe, mixed, training=training, validation=validation, progress=progress)


def _learner(recipe: Recipe, policy: Policy, processors: Processors) -> Learner:
    if isinstance(policy, WorldModelPolicy):
        return WorldModelLearner(policy, processors, recipe.augmentation)
    return PolicyLearner(policy, processors, recipe.augmentation)


def _policy_config(recipe: Recipe, robots: Sequence[RobotData]) -> PolicyConfig:
    """Return the policy's options with what comes from the data and the robots."""
    reserved = [name for name in ("inputs", "action") if name in recipe.policy.overrides]
    if reserved:
        raise ConfigError(
            f"recipe: policy option '{reserved[0]}' comes from the recipe's inputs and the data; remove it."
        )
    name, options = current_policy(recipe.policy.name, recipe.policy.overrides, "recipe")
    data = robots[0].data
    contract = data.contract
    features = [_processed(recipe, robot) for robot in robots]
    inputs, action = dict(features[0].inputs), features[0].action
    if len(robots) > 1:
        inputs, action = shared_features(recipe.inputs, features, recipe.normalisation)
        _check_mixes(recipe, robots)
    content = {**options, "inputs": inputs, "action": action}
    has_goal_camera = any(entry.name == "goal_camera" for entry in fields(policy_class(name).config_class))
    if GOAL_IMAGE in recipe.inputs and contract.goal and contract.goal.camera in recipe.inputs and has_goal_camera:
        content.setdefault("goal_camera", contract.goal.camera)
    source = f"options of policy {name}"
    config = policy_config(name, content, source)
    is_relative = [check_relative(_steps(recipe, robot), robot.data.contract) for robot in robots]
    with options_of(source):
        return with_motion_of(config, options, contract, is_relative=is_relative[0])


def _steps(recipe: Recipe, robot: RobotData) -> Sequence[ProcessorStep]:
    data, options = robot.data, _normalisation(recipe, robot)
    return build_steps(recipe.processors, options, data.inputs, data.action, "recipe: processors")


def _normalisation(recipe: Recipe, robot: RobotData) -> ProcessorOptions:
    """Return how a robot's features are normalised, exceptions under its own keys."""
    exceptions = {
        robot.sources.get(key, key): mode
        for key, mode in recipe.normalisation.keys.items()
        if key in robot.sources or key not in recipe.inputs
    }
    return replace(recipe.normalisation, keys=exceptions)


def _processed(recipe: Recipe, robot: RobotData) -> RobotFeatures:
    """Return what a robot has of the recipe's inputs, as it is after the processors."""
    after = _steps(recipe, robot)[-1].after
    return replace(robot.features, inputs=after.inputs, action=after.action)


def _check_mixes(recipe: Recipe, robots: Sequence[RobotData]) -> None:
    """Refuse an architecture that would learn from what a robot does not have."""
    kind = policy_class(current_policy(recipe.policy.name, recipe.policy.overrides)[0])
    widths = {robot.name: robot.data.action.shape[0] for robot in robots}
    if len(set(widths.values())) > 1 and not kind.pads_actions:
        said = ", ".join(f"{name} {width}" for name, width in widths.items())
        raise ConfigError(f"recipe: mixture: policy {kind.name} cannot pad actions, and the robots' differ: {said}.")
    if issubclass(kind, WorldModelPolicy):
        raise ConfigError(f"recipe: mixture: policy {kind.name} learns one robot's dynamics; train it on one dataset.")
    for robot in robots:
        lacking = [key for key in recipe.inputs if key not in robot.sources]
        if lacking and not kind.masks_cameras:
            raise ConfigError(
                f"recipe: mixture: policy {kind.name} cannot mask cameras, and '{robot.name}' has no '{lacking[0]}'; "
                "take policy pi0, or only cameras that all robots have."
            )


def _processors(recipe: Recipe, config: PolicyConfig, robots: Sequence[RobotData]) -> list[Processors]:
    """Return each robot's processors, made of its own statistics."""
    made = []
    for robot in robots:
        data = robot.data
        own = _processed(recipe, robot)
        options = with_scaling_of(_normalisation(recipe, robot), config, own.action)
        windows = partial(numeric_windows, config, data)
        processors = Processors(
            data.inputs, data.action, options, data.statistics, steps=recipe.processors, windows=windows
        )
        if len(robots) > 1:
            processors.slots = slots_of(own, config.inputs, config.action)
        made.append(processors)
    return made


def _build(recipe: Recipe, config: PolicyConfig, processors: Sequence[Processors]) -> Policy:
    device = _device(recipe.device)
    torch.manual_seed(recipe.seed)
    name = current_policy(recipe.policy.name, recipe.policy.overrides)[0]
    with options_of(f"options of policy {name}"):
        policy = policy_class(name)(config)
    processors[0].use_text(policy.config.text)
    for own in processors:
        own.share_text_of(processors[0])  # instructions are the same to all robots
        own.to(device)
    return policy.to(device)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as reason:
        raise ConfigError(f"recipe: device '{name}' cannot be used: {str(reason).splitlines()[0]}") from reason
    return device
