"""What a training run is made of, read from YAML. No tensors, no dataset is opened.

Paths: a policy's options file and the recipe that another one extends are relative to the file that names them; data
and output are relative to where the command runs.
"""

import os
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from vla_ros.contract import Section, load_yaml
from vla_ros.contract.options import read_dataclass
from vla_ros.data_types import ConfigError
from vla_ros.processors import ProcessorOptions


def _at_least(options: object, names: Sequence[str], minimum: float, exclusive: bool = False) -> None:
    for name in names:
        value = getattr(options, name)
        if value is not None and (value < minimum or (exclusive and value == minimum)):
            raise ConfigError(f"{name}={value:g} must be {'above' if exclusive else 'at least'} {minimum:g}.")


@dataclass(frozen=True, kw_only=True)
class DataOptions:
    """Where the data is.

    Attributes:
        root: Dataset folder.
        contract: Contract to train under in place of the dataset's own copy: one whose numbers mean the same, but with
            other topics or limits, or with a goal. None takes the copy. A dataset of another writer has none and needs
            one here; rate, sizes and the order of equal names are held against it.
        validation_fraction: Share of the episodes kept for validation; 0 validates nothing.
    """

    root: str
    contract: str | None = None
    validation_fraction: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.validation_fraction < 1.0:
            raise ConfigError(f"validation_fraction={self.validation_fraction:g} must be at least 0 and below 1.")


@dataclass(frozen=True, kw_only=True)
class PolicyChoice:
    """Which architecture, with which options.

    Attributes:
        name: Name in the policy registry.
        options: YAML file of its options, relative to the recipe; None takes the defaults.
        overrides: Options that differ from that file.
    """

    name: str
    options: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions:
    """How weights are changed.

    Attributes:
        name: ``adam`` decays every weight (L2); ``adamw`` decays matrices and kernels only.
        lr: Largest learning rate.
        weight_decay: As the optimiser defines it.
        betas: Of Adam's moments.
        grad_clip: Largest norm of the gradient; None does not clip.
    """

    name: Literal["adam", "adamw"] = "adamw"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    grad_clip: float | None = None

    def __post_init__(self) -> None:
        _at_least(self, ("lr", "grad_clip"), 0.0, exclusive=True)
        _at_least(self, ("weight_decay",), 0.0)


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions:
    """How the learning rate goes, as a share of its largest value.

    Attributes:
        name: ``constant``; ``cosine`` down to `final_share`; ``one_cycle``: cosine up from 1/25, then down;
            ``plateau``: times `factor` when validation stops improving.
        warmup_share: Share of all steps spent rising, linearly (one_cycle: by a cosine).
        final_share: Where cosine and one_cycle end.
        factor, patience, threshold: Of ``plateau``: what to multiply by, after how many epochs without an
            improvement by this share.
    """

    name: Literal["constant", "cosine", "one_cycle", "plateau"] = "constant"
    warmup_share: float = 0.0
    final_share: float = 0.0
    factor: float = 0.5
    patience: int = 2
    threshold: float = 0.01

    def __post_init__(self) -> None:
        for name in ("warmup_share", "final_share", "threshold"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ConfigError(f"{name}={getattr(self, name):g} must be at least 0 and below 1.")
        if not 0.0 < self.factor < 1.0:
            raise ConfigError(f"factor={self.factor:g} must be between 0 and 1.")
        _at_least(self, ("patience",), 0)


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """Random changes to training observations, the same for all frames of a window.

    Attributes:
        random_shift: Largest shift in pixels along each axis; edges are repeated.
        brightness: Largest change, as a share of full scale.
        contrast: Largest change of the spread around each image's mean, as a share.
        vector_dropout: Share of windows whose vectors (proprioception and the like) are all replaced by their means, so
            that a policy cannot do without its pictures. A demonstration's positions alone give away where it is
            heading, and a policy that reads only them does not know where to go when it starts (causal confusion: de
            Haan et al., NeurIPS 2019, arXiv:1905.11979).
    """

    random_shift: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    vector_dropout: float = 0.0

    def __post_init__(self) -> None:
        _at_least(self, ("random_shift", "brightness", "contrast", "vector_dropout"), 0)
        if self.vector_dropout >= 1.0:
            raise ConfigError(f"vector_dropout={self.vector_dropout:g} must be below 1.")

    @property
    def changes_anything(self) -> bool:
        """Whether any change is asked for."""
        return any((self.random_shift, self.brightness, self.contrast, self.vector_dropout))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run.

    Attributes:
        output: Folder of the run.
        dataset: Where the data is.
        policy: Architecture and options; `load_recipe` merges the options file into ``overrides``.
        inputs: Feature keys that the policy sees; ``goal.image`` where the contract says whose picture that is.
        normalisation: How features are normalised.
        epochs, steps: How long; exactly one of them.
        batch_size: Windows per step.
        optimiser, schedule, augmentation: See there.
        ema_decay: Keep an exponential average of the weights, and validate and save that; None does not.
        early_stop_epochs: Stop when validation has not improved for so many epochs; None does not.
        keep_best: Save the weights with the lowest validation loss instead of the last ones.
        save_every_epochs: How often the state for resuming is written.
        seed: Decides the split, the initial weights and everything random. Equal seeds give equal weights on one
            machine.
        device: torch device; ``auto`` takes a GPU when there is one.
        precision: ``bf16`` runs forward passes in bfloat16 where that is safe.
        threads: torch threads; None leaves torch's choice. The weights' last digits depend on it.
    """

    output: str
    dataset: DataOptions
    policy: PolicyChoice
    inputs: tuple[str, ...]
    normalisation: ProcessorOptions = field(default_factory=ProcessorOptions)
    epochs: int | None = None
    steps: int | None = None
    batch_size: int = 64
    optimiser: OptimiserOptions = field(default_factory=OptimiserOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    ema_decay: float | None = None
    early_stop_epochs: int | None = None
    keep_best: bool = True
    save_every_epochs: int = 1
    seed: int = 0
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give either epochs or steps, not both and not neither.")
        _at_least(self, ("epochs", "steps", "batch_size", "early_stop_epochs", "save_every_epochs", "threads"), 1)
        _at_least(self, ("seed",), 0)
        if self.ema_decay is not None and not 0.0 < self.ema_decay < 1.0:
            raise ConfigError(f"ema_decay={self.ema_decay:g} must be between 0 and 1.")
        if not self.inputs or len(set(self.inputs)) != len(self.inputs):
            raise ConfigError(f"inputs must be one or more different feature keys, got {list(self.inputs)}.")
        if self.dataset.validation_fraction == 0.0:
            if self.early_stop_epochs is not None:
                raise ConfigError("early_stop_epochs needs validation, but dataset.validation_fraction is 0.")
            if self.schedule.name == "plateau":
                raise ConfigError("schedule.name 'plateau' needs validation, but dataset.validation_fraction is 0.")


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    ``extends: other.yaml`` starts from another recipe; each field given besides replaces that one's, whole.

    Args:
        path: YAML file.
        overrides: ``a.b=value`` replaces one field; values are YAML.

    Raises:
        ConfigError: A file is missing or malformed; a field is unknown, of another type, or contradicts another;
            recipes extend each other in a circle.
    """
    path = Path(path)
    content = _extended(path, ())
    for override in overrides:
        content = _override(content, override, str(path))
    recipe = read_dataclass(Section(str(path), "", content, ConfigError), Recipe)
    return replace(recipe, policy=_merged(recipe.policy, path))


def _extended(path: Path, via: tuple[Path, ...]) -> Any:
    """Return a recipe's content with what it extends, and so on; `via` are the recipes that led here."""
    if path.resolve() in via:
        names = " → ".join(p.name for p in (*via, path))
        raise ConfigError(f"{path}: recipes extend each other in a circle: {names}.")
    content = load_yaml(path, ConfigError)
    if not isinstance(content, dict) or "extends" not in content:
        return content
    own = dict(content)
    other = own.pop("extends")
    if not isinstance(other, str):
        raise ConfigError(f"{path}: extends: expected the name of a recipe, got {other!r}.")
    base_path = path.parent / other
    base = _extended(base_path, (*via, path.resolve()))
    if not isinstance(base, dict):
        raise ConfigError(f"{base_path}: expected a mapping of fields, got {base!r}.")
    policy = base.get("policy")
    if isinstance(policy, dict) and isinstance(policy.get("options"), str):
        options = os.path.relpath(base_path.parent / policy["options"], path.parent)
        base = {**base, "policy": {**policy, "options": options}}
    if "epochs" in own or "steps" in own:  # exactly one of them says how long
        base = {name: value for name, value in base.items() if name not in ("epochs", "steps")}
    return {**base, **own}


def _merged(policy: PolicyChoice, recipe_path: Path) -> PolicyChoice:
    if policy.options is None:
        return policy
    options_path = recipe_path.parent / policy.options
    options = load_yaml(options_path, ConfigError) or {}
    if not isinstance(options, Mapping):
        raise ConfigError(f"{options_path}: expected a mapping of options, got {options!r}")
    return replace(policy, options=None, overrides={**options, **policy.overrides})


def _override(content: Any, override: str, source: str) -> Any:
    place, equals, text = override.partition("=")
    if not equals or not place:
        raise ConfigError(f"override '{override}' must have the form a.b=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as reason:
        raise ConfigError(f"override '{override}': the value is not YAML: {' '.join(str(reason).split())}") from reason
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        value = float(value)  # YAML 1.1 reads 1e-4, which everybody types, as text
    content = deepcopy(content)
    *parents, last = place.split(".")
    at = content
    for index, name in enumerate(parents):
        if not isinstance(at, dict):
            raise ConfigError(f"{source}: override '{override}': {'.'.join(parents[:index])} has no fields.")
        at = at.setdefault(name, {})
    if not isinstance(at, dict):
        raise ConfigError(f"{source}: override '{override}': {'.'.join(parents)} has no fields.")
    at[last] = value
    return content
