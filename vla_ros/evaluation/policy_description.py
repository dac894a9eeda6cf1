"""What an architecture sees, predicts, weighs and costs, as plain data. It is built and measured, never quoted.

Nothing is trained, downloaded or printed; the networks built here are thrown away.
"""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

import torch

from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.data_types.resources import share_folders
from vla_ros.evaluation.flops import build_weightless, count_flops
from vla_ros.networks.language.prefix_layout import PrefixLayout
from vla_ros.policies import (
    Policy,
    PolicyConfig,
    current_policy,
    image_shape,
    options_of,
    policy_class,
    policy_config,
    policy_names,
)
from vla_ros.policies.common.action_scaling import check_relative, with_motion_of, with_scaling_of
from vla_ros.policies.examples import make_example_batch
from vla_ros.processors import Features, ProcessorOptions, ProcessorStep, StepChoice, build_steps
from vla_ros.processors.normalise import Normalise
from vla_ros.processors.text import TextStep
from vla_ros.schema import SchemaField, fields_of, load_yaml, to_plain
from vla_ros.training.recipe import load_recipe

OPTIONS_FOLDER = "config/policies"
STATE = "observation.state"
_FROM_CONTRACT = ("inputs", "action")


@dataclass(frozen=True)
class Processing:
    """What stands between robot and policy.

    Attributes:
        normalisation: How features are resized and normalised.
        steps: Other steps, in order.
    """

    normalisation: ProcessorOptions = field(default_factory=ProcessorOptions)
    steps: tuple[StepChoice, ...] = ()


@dataclass(frozen=True)
class PolicyOptions:
    """An architecture and what differs from its defaults.

    Attributes:
        policy: Name in the policy registry.
        options: Fields of its config.
        source: File of the options; empty when there is none.
    """

    policy: str
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""


def shipped_options() -> dict[str, Path]:
    """Return the options files that ship with the package, by stem."""
    folders = reversed(share_folders())  # the most specific one last, so that its files win
    found = {path.stem: path for folder in folders for path in (folder / OPTIONS_FOLDER).glob("*.yaml")}
    return dict(sorted(found.items()))


def architecture_of(stem: str) -> str:
    """Return the policy whose name an options file's name begins with, the longest one of several.

    Raises:
        ConfigError: None does.
    """
    names = policy_names()
    fitting = [name for name in names if f"{stem}_".startswith(f"{name}_")]
    if not fitting:
        raise ConfigError(
            f"options file '{stem}.yaml': its name begins with that of no policy: {', '.join(names)}; "
            "give the policy's name, and the file as --options."
        )
    return max(fitting, key=len)


def find_policy(name: str, options_path: Path | None = None) -> PolicyOptions:
    """Find an architecture by its own name, or by that of a shipped options file.

    Args:
        name: ``pi0`` takes the architecture's own defaults; ``pi0_small`` an options file.
        options_path: Options for an architecture.

    Raises:
        ConfigError: Nothing has this name; the file cannot be read or holds no options.
    """
    if name in policy_names():
        return PolicyOptions(name) if options_path is None else _read_options(name, options_path)
    shipped = shipped_options()
    if name not in shipped:
        hint = nearest_name(name, [*policy_names(), *shipped])
        known = ", ".join(policy_names())
        raise ConfigError(f"policy '{name}' is not one of {known}, nor an options file in {OPTIONS_FOLDER}.{hint}")
    policy = architecture_of(name)
    if options_path is not None:
        raise ConfigError(f"'{name}' is an options file itself; for {options_path} give its policy's name, '{policy}'.")
    return _read_options(policy, shipped[name])


def describe_policy(
    chosen: PolicyOptions,
    contract: RobotContract,
    keys: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
    processing: Processing | None = None,
) -> dict[str, Any]:
    """Build a policy for a robot and measure it.

    Args:
        chosen: Architecture and options.
        contract: The robot.
        keys: Features that the policy sees; None: every camera and ``observation.state``.
        image_size: (height, width) in pixels to which all images are resized; None keeps the contract's.
        processing: Steps between robot and policy; None takes those that every policy has.

    Returns:
        Data for JSON; shapes are those of one sample, without the batch's axis.

    Raises:
        ContractError: The robot has no feature of such a key.
        ConfigError: The options are malformed, or the architecture cannot take these inputs.
    """
    name, options = current_policy(chosen.policy, chosen.options, chosen.source)
    chosen = replace(chosen, policy=name, options=options)
    kind, processing = policy_class(chosen.policy), processing or Processing()
    if image_size is not None:
        processing = replace(processing, normalisation=replace(processing.normalisation, image_size=image_size))
    inputs, action = select_inputs(contract, keys), contract.features[contract.action.key]
    seen = build_steps(processing.steps, processing.normalisation, inputs, action)[-1].after
    given = {**chosen.options, "inputs": seen.inputs, "action": seen.action}
    config = policy_config(chosen.policy, given, chosen.source)
    steps = _steps_of(config, chosen, contract, processing, inputs)
    with options_of(chosen.source or f"policy {chosen.policy}"):
        policy = build_weightless(kind, config)
    return {
        "policy": chosen.policy,
        "summary": summary(chosen.policy),
        "options": chosen.source or None,
        "robot": contract.robot_type,
        "inputs": [*_described_inputs(config), *_instruction_tensors(config)],
        "outputs": _outputs(config, contract),
        "processors": [_described_step(step, config) for step in steps],
        "parameters": policy.parameter_counts(),
        "flops": asdict(count_flops(policy)),
        "layout": _layout(policy),
        "goals": _goals(config),
        "n_obs_steps": config.n_obs_steps,
        "action_horizon": config.action_horizon,
        "n_action_steps": config.n_action_steps,
        "objective": config.loss_summary,
        "config": [_field(entry, config, chosen.options) for entry in fields_of(type(config))],
    }


def _layout(policy: Policy) -> list[dict[str, str | int]]:
    """Return the spans of the sequence that a policy's language model sees; none where it has no such thing."""
    layout = getattr(policy, "layout", None)
    return layout.rows() if isinstance(layout, PrefixLayout) else []


def policy_config_of(
    chosen: PolicyOptions,
    contract: RobotContract,
    keys: Sequence[str] | None = None,
    image_size: tuple[int, int] | None = None,
) -> PolicyConfig:
    """Return the checked options of a policy for a robot; arguments and errors as `describe_policy`."""
    processing = Processing()
    if image_size is not None:
        processing = replace(processing, normalisation=replace(processing.normalisation, image_size=image_size))
    inputs, action = select_inputs(contract, keys), contract.features[contract.action.key]
    seen = build_steps(processing.steps, processing.normalisation, inputs, action)[-1].after
    return policy_config(chosen.policy, {**chosen.options, "inputs": seen.inputs, "action": seen.action}, chosen.source)


def find_recipe(path: Path) -> tuple[PolicyOptions, tuple[str, ...], Processing, str | None]:
    """Return what a training recipe says of its policy: options, inputs, processors, and the contract that it names.

    Raises:
        ConfigError: The recipe cannot be read.
    """
    recipe = load_recipe(path)
    chosen = PolicyOptions(recipe.policy.name, recipe.policy.overrides, str(path))
    return chosen, recipe.inputs, Processing(recipe.normalisation, recipe.processors), recipe.dataset.contract


def select_inputs(contract: RobotContract, keys: Sequence[str] | None = None) -> dict[str, FeatureSpec]:
    """Return a policy's input features as the robot has them; arguments and errors as `describe_policy`."""
    if keys is None:
        features = contract.features
        keys = [key for key, spec in features.items() if spec.kind == "image" or key == STATE]
    specs = {key: contract.feature(key) for key in keys}
    if len(specs) != len(keys) or contract.action.key in specs:
        raise ConfigError(f"inputs must be different observations of {contract.robot_type}, got {', '.join(keys)}.")
    return specs


def summary(name: str) -> str:
    """Return the first paragraph of an architecture's documentation; why it cannot be imported, if so."""
    try:
        documentation = inspect.getdoc(policy_class(name)) or ""
    except ConfigError as error:
        return str(error)
    return documentation.partition("\n\n")[0].replace("\n", " ")


def _read_options(policy: str, path: Path) -> PolicyOptions:
    options = load_yaml(path, ConfigError) or {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"{path}: expected a mapping of options, got {options!r}")
    for name in _FROM_CONTRACT:
        if name in options:
            raise ConfigError(f"{path}: '{name}' comes from the robot's contract; remove it.")
    return PolicyOptions(policy, options, str(path))


def _described_inputs(config: PolicyConfig) -> list[dict[str, Any]]:
    return [
        {
            "key": key,
            "kind": spec.kind,
            "shape": [config.n_obs_steps, *(image_shape(spec) if spec.kind == "image" else spec.shape)],
            "dtype": "float32",
            "required": key not in config.optional_inputs,
        }
        for key, spec in config.inputs.items()
    ]


def _instruction_tensors(config: PolicyConfig) -> list[dict[str, Any]]:
    """Return what the instruction reaches the policy as."""
    batch = make_example_batch(config, batch_size=1)
    return [
        {
            "key": key,
            "kind": "instruction",
            "shape": list(value.shape[1:]),
            "dtype": str(value.dtype).removeprefix("torch."),
            "required": True,
        }
        for key, value in batch.items()
        if key.startswith("task_") and isinstance(value, torch.Tensor)
    ]


def _steps_of(
    config: PolicyConfig,
    chosen: PolicyOptions,
    contract: RobotContract,
    processing: Processing,
    inputs: Mapping[str, FeatureSpec],
) -> tuple[ProcessorStep, ...]:
    """Return the steps as training would build them: the policy's loss decides how its action is normalised."""
    action = contract.features[contract.action.key]
    plain = build_steps(processing.steps, processing.normalisation, inputs, action)
    with options_of(chosen.source or f"policy {chosen.policy}"):
        is_relative = check_relative(plain, contract)
        config = with_motion_of(config, chosen.options, contract, is_relative=is_relative)
        normalisation = with_scaling_of(processing.normalisation, config, config.action)
    steps = build_steps(processing.steps, normalisation, inputs, action)
    return steps if config.text is None else (*steps, TextStep(config.text, steps[-1].after))


def _described_step(step: ProcessorStep, config: PolicyConfig) -> dict[str, Any]:
    """Return a step's name, what it does, and the shapes of what goes in and comes out."""
    before, after = (_shapes(features, config) for features in (step.before, step.after))
    if isinstance(step, Normalise):  # which also puts channels first
        images = {key: image_shape(spec) for key, spec in step.after.inputs.items() if spec.kind == "image"}
        after |= {key: [config.n_obs_steps, *shape] for key, shape in images.items()}
    return {"name": step.name, "summary": step.summary(), "before": before, "after": after}


def _shapes(features: Features, config: PolicyConfig) -> dict[str, list[int]]:
    inputs = {key: [config.n_obs_steps, *spec.shape] for key, spec in features.inputs.items()}
    return {**inputs, features.action.key: [config.action_horizon, *features.action.shape]}


def _outputs(config: PolicyConfig, contract: RobotContract) -> dict[str, Any]:
    return {
        "names": list(contract.action.names),
        "units": list(contract.action.units),
        "representation": contract.action.representation,
        "shape": [config.action_horizon, config.action_dim],
        "dtype": "float32",
        "bounded": config.bounded_actions,
    }


def _goals(config: PolicyConfig) -> dict[str, Any]:
    return {
        "takes": list(config.goals),
        "text": None if config.text is None else config.text.kind,
        "can_take": {"instruction": list(config.text_kinds), "goal_image": config.takes_goal_image},
    }


def _field(entry: SchemaField, config: PolicyConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    kind = get_type_hints(type(config))[entry.name]
    described: dict[str, Any] = {
        "name": entry.name,
        "type": _type_text(kind),
        "value": to_plain(getattr(config, entry.name)),
        "description": entry.about.description,
    }
    if entry.has_default:
        described["default"] = to_plain(entry.default)
    chosen_by = "contract" if entry.name in _FROM_CONTRACT else "options" if entry.name in options else "default"
    return {**described, "from": chosen_by}


def _type_text(kind: object) -> str:
    """Return a type as one writes it: ``int``, ``TextSpec | None``, ``tuple[int, ...]``; no module paths."""
    if isinstance(kind, type) and "[" not in str(kind):
        return kind.__name__
    return re.sub(r"(\w+\.)+(?=[A-Z])", "", str(kind))
