"""The README.md of a checkpoint, from what the checkpoint knows. No numbers of its own."""

from collections.abc import Mapping
from typing import Any

from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.policies import Policy
from vla_ros.processors import STANDARD, Processors


def model_card(policy: Policy, processors: Processors, contract: RobotContract, metadata: Mapping[str, Any]) -> str:
    """Return Markdown that says what the policy sees and does, what it was trained on, and how to run it."""
    sections = (
        _what_it_is(policy, contract, metadata),
        _features(processors),
        _training(contract, metadata),
        _use(contract, metadata),
    )
    return "\n".join(line for section in sections for line in section)


def _what_it_is(policy: Policy, contract: RobotContract, metadata: Mapping[str, Any]) -> list[str]:
    sees, predicts = _count(policy.config.n_obs_steps, "frame"), _count(policy.config.action_horizon, "action")
    sentence = f"{metadata['parameters']:,} parameters. Sees {sees}, predicts {predicts} at {contract.fps} Hz."
    return [f"# {policy.name} for {contract.robot_type}", "", sentence, ""]


def _features(processors: Processors) -> list[str]:
    lines = ["| feature | kind | shape | numbers | normalised by |", "|---|---|---|---|---|"]
    features = (*processors.inputs.values(), processors.action)
    lines += [_row(spec, processors.options.mode(spec)) for spec in features]
    own = [step for step in processors.steps if step.name not in STANDARD]
    if own:
        lines += ["", "Before that: " + "; ".join(f"{step.name} ({step.summary()})" for step in own) + "."]
    if processors.constant:
        flat = "; ".join(f"{key}: {', '.join(names)}" for key, names in processors.constant.items())
        lines += ["", f"Never varied in the training data, hence only centred: {flat}."]
    return [*lines, ""]


def _training(contract: RobotContract, metadata: Mapping[str, Any]) -> list[str]:
    names = ("dataset", "epoch", "step", "metrics")
    lines = [f"- {name}: {_plain(metadata[name])}" for name in names if name in metadata]
    if metadata.get("action_error"):
        errors = zip(metadata["action_error"].items(), contract.action.units, strict=True)
        lines += ["- mean absolute error in validation: " + ", ".join(f"{n} {e:.3g} {unit}" for (n, e), unit in errors)]
    if "recipe.yaml" in metadata["files"]:
        lines += ["- recipe: [recipe.yaml](recipe.yaml)"]
    if "loss_curve.png" in metadata["files"]:
        lines += ["", "![Training and validation loss](loss_curve.png)"]
    return ["## Training", "", *lines, ""] if lines else []


def _use(contract: RobotContract, metadata: Mapping[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {version}" for name, version in metadata["versions"].items())
    fits = f"Runs on robots whose contract has the hash `{contract.hash}` ([contract.yaml](contract.yaml)); the policy"
    usage = f"{fits} node refuses others. Point its parameter `checkpoint` at this folder."
    return ["## Use", "", usage, "", f"Made with {versions}.", "", *_packages(metadata)]


def _packages(metadata: Mapping[str, Any]) -> list[str]:
    """Say which packages must be installed beside vla_ros."""
    parts = metadata.get("parts", ())
    needed: dict[str, list[str]] = {f"`{part['package']}` {part['version']}".rstrip(): [] for part in parts}
    for part in parts:
        needed[f"`{part['package']}` {part['version']}".rstrip()].append(f"{part['name']} ({part['kind']})")
    lines = [f"- {package}: {', '.join(names)}" for package, names in needed.items()]
    return ["Needs these packages beside vla_ros, for parts that are theirs:", "", *lines, ""] if lines else []


def _row(spec: FeatureSpec, mode: str) -> str:
    names = "" if spec.kind == "image" else ", ".join(spec.names)
    return f"| `{spec.key}` | {spec.kind} | {' × '.join(map(str, spec.shape))} | {names} | {mode} |"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items())
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
