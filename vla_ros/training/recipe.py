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
from typing import Annotated, Any, Literal

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.processors import ProcessorOptions, StepChoice
from vla_ros.schema import About, Checked, Only, Section, file_form_of, load_yaml, parse_yaml, read_dataclass

_FALLING = Only("with name 'cosine' or 'one_cycle'", lambda schedule: schedule.name in ("cosine", "one_cycle"))
_PLATEAU = Only("with name 'plateau'", lambda schedule: schedule.name == "plateau")


@dataclass(frozen=True, kw_only=True)
class DataOptions(Checked):
    """Where the data is."""

    root: Annotated[str, About("Dataset folder.")]
    contract: Annotated[
        str | None,
        About(
            "Contract to train under in place of the dataset's own copy: one whose numbers mean the same, but with "
            "other topics or limits, or with a goal. Null takes the copy. A dataset of another writer has none and "
            "needs one here; rate, sizes and the order of equal names are held against it."
        ),
    ] = None
    validation_fraction: Annotated[
        float, About("Share of the episodes kept for validation; 0 validates nothing.", at_least=0, below=1)
    ] = 0.1
    weight: Annotated[
        float, About("Beside a mixture: ratio of the windows trained on, in the unit of the others' weights.", above=0)
    ] = 1.0
    without: Annotated[
        tuple[str, ...], About("Beside a mixture: cameras of `inputs` that this robot does not have; they are masked.")
    ] = ()
    cache_gb: Annotated[
        float,
        About(
            "Decoded frames are kept on the output folder's disk while the run lasts, up to this and to half of what "
            "is free there; other frames are decoded whenever a window has them. 0 keeps none.",
            "GB",
            at_least=0,
        ),
    ] = 4.0


@dataclass(frozen=True, kw_only=True)
class MixedDataset(Checked):
    """Another robot's dataset, trained on beside the recipe's own."""

    root: Annotated[str, About("Dataset folder.")]
    contract: Annotated[str | None, About("As `dataset.contract`.")] = None
    weight: Annotated[float, About("Ratio of the windows trained on, in the unit of the others' weights.", above=0)] = (
        1.0
    )
    keys: Annotated[
        dict[str, str], About("Entry of `inputs` → this robot's own key, where they differ (another camera's name).")
    ] = field(default_factory=dict)
    without: Annotated[
        tuple[str, ...], About("Cameras of `inputs` that this robot does not have; they are masked.")
    ] = ()


@dataclass(frozen=True, kw_only=True)
class PolicyChoice(Checked):
    """Which architecture, with which options."""

    name: Annotated[str, About("Name in the policy registry.")]
    options: Annotated[
        str | None, About("YAML file of its options, relative to the recipe; null takes the defaults.")
    ] = None
    overrides: Annotated[dict[str, Any], About("Options that differ from that file.")] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OptimiserOptions(Checked):
    """How weights are changed."""

    name: Annotated[
        Literal["adam", "adamw"],
        About("`adam` decays every weight (L2); `adamw` decays matrices and kernels only."),
    ] = "adamw"
    lr: Annotated[float, About("Largest learning rate.", above=0)] = 1e-3
    weight_decay: Annotated[float, About("As the optimiser defines it.", at_least=0)] = 1e-4
    betas: Annotated[tuple[float, float], About("Of Adam's moments.")] = (0.9, 0.999)
    part_lr: Annotated[
        dict[str, float],
        About(
            "Largest learning rates of parts in place of `lr`: `vision`, `language`, `expert` and `heads`, as far as "
            "the policy has them (`vla_ros policies describe` counts them). 0 freezes a part."
        ),
    ] = field(default_factory=dict)
    grad_clip: Annotated[float | None, About("Largest norm of the gradient; null does not clip.", above=0)] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, rate in self.part_lr.items():
            if not 0.0 <= rate < float("inf"):
                raise ConfigError(f"part_lr.{name}={rate:g} must be a learning rate of at least 0.")


@dataclass(frozen=True, kw_only=True)
class ScheduleOptions(Checked):
    """How the learning rate goes, as a share of its largest value."""

    name: Annotated[
        Literal["constant", "cosine", "one_cycle", "plateau"],
        About(
            "`constant`; `cosine` down to `final_share`; `one_cycle`: cosine up from 1/25, then down; `plateau`: times "
            "`factor` when validation stops improving."
        ),
    ] = "constant"
    warmup_share: Annotated[
        float,
        About("Share of all steps spent rising, linearly (one_cycle: by a cosine).", at_least=0, below=1),
    ] = 0.0
    final_share: Annotated[float, About("Where the course ends.", at_least=0, below=1, only=_FALLING)] = 0.0
    factor: Annotated[float, About("What to multiply by.", above=0, below=1, only=_PLATEAU)] = 0.5
    patience: Annotated[int, About("Epochs without an improvement before that.", at_least=0, only=_PLATEAU)] = 2
    threshold: Annotated[float, About("Smallest share that is an improvement.", at_least=0, below=1, only=_PLATEAU)] = (
        0.01
    )
    floor: Annotated[
        float, About("Share of the largest rate below which no reduction goes.", at_least=0, below=1, only=_PLATEAU)
    ] = 0.01


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions(Checked):
    """Random changes to training observations, the same for all frames of a window.

    A demonstration's positions alone give away where it is heading, and a policy that reads only them does not know
    where to go when it starts (causal confusion: de Haan et al., NeurIPS 2019, arXiv:1905.11979); hence
    `vector_dropout`.
    """

    random_shift: Annotated[int, About("Largest shift along each axis; edges are repeated.", "pixels", at_least=0)] = 0
    brightness: Annotated[float, About("Largest change, as a share of full scale.", at_least=0)] = 0.0
    contrast: Annotated[
        float, About("Largest change of the spread around each image's mean, as a share.", at_least=0)
    ] = 0.0
    vector_dropout: Annotated[
        float,
        About(
            "Share of windows whose vectors (proprioception and the like) are all replaced by their means, so that a "
            "policy cannot do without its pictures.",
            at_least=0,
            below=1,
        ),
    ] = 0.0

    @property
    def changes_anything(self) -> bool:
        """Whether any change is asked for."""
        return any((self.random_shift, self.brightness, self.contrast, self.vector_dropout))


@dataclass(frozen=True, kw_only=True)
class Recipe(Checked):
    """A training run. Equal seeds give equal weights on one machine."""

    output: Annotated[str, About("Folder of the run.")]
    dataset: Annotated[DataOptions, About("Where the data is.")]
    policy: Annotated[PolicyChoice, About("Architecture and options.")]
    inputs: Annotated[
        tuple[str, ...],
        About("Feature keys that the policy sees; `goal.image` where the contract says whose picture that is."),
    ]
    mixture: Annotated[
        dict[str, MixedDataset],
        About(
            "Name → dataset of another robot to train on too. The checkpoint is for the robot of `dataset`, keeps the "
            "statistics of each, and `vla_ros checkpoint select` makes it another robot's. Each robot is normalised by "
            "its own statistics; vectors and actions are padded to the widest, and padding is masked."
        ),
    ] = field(default_factory=dict)
    normalisation: Annotated[ProcessorOptions, About("How features are normalised.")] = field(
        default_factory=ProcessorOptions
    )
    processors: Annotated[
        tuple[StepChoice, ...],
        About(
            "Steps between robot and policy, in order: relative actions, rotation forms, own ones. `resize` and "
            "`normalise` follow them unless they are named among them."
        ),
    ] = ()
    epochs: Annotated[int | None, About("How long; this or `steps`.", at_least=1)] = None
    steps: Annotated[int | None, About("How long; this or `epochs`.", at_least=1)] = None
    batch_size: Annotated[int, About("Windows per step.", at_least=1)] = 64
    optimiser: Annotated[OptimiserOptions, About("How weights are changed.")] = field(default_factory=OptimiserOptions)
    schedule: Annotated[ScheduleOptions, About("How the learning rate goes.")] = field(default_factory=ScheduleOptions)
    augmentation: Annotated[AugmentationOptions, About("Random changes to training observations.")] = field(
        default_factory=AugmentationOptions
    )
    ema_decay: Annotated[
        float | None,
        About(
            "Keep an exponential average of the weights, and validate and save that; null does not. BatchNorm layers "
            "get statistics of the averaged weights, from 32 batches of each epoch's end.",
            above=0,
            below=1,
        ),
    ] = None
    early_stop_epochs: Annotated[
        int | None,
        About("Stop when validation has not improved for so many epochs; null does not.", at_least=1),
    ] = None
    keep_best: Annotated[bool, About("Save the weights with the lowest validation loss instead of the last ones.")] = (
        True
    )
    save_every_epochs: Annotated[int, About("How often the state for resuming is written.", "epochs", at_least=1)] = 1
    save_every_steps: Annotated[
        int | None,
        About("Write it within epochs too, which may be long; null does not.", "steps", at_least=1),
    ] = None
    seed: Annotated[int, About("Decides the split, the initial weights and everything random.", at_least=0)] = 0
    device: Annotated[str, About("torch device; `auto` takes a GPU when there is one.")] = "auto"
    precision: Annotated[
        Literal["fp32", "bf16"], About("`bf16` runs forward passes in bfloat16 where that is safe.")
    ] = "fp32"
    gradient_checkpointing: Annotated[
        bool,
        About("Compute the activations of transformer blocks again in the backward pass instead of keeping them."),
    ] = False
    workers: Annotated[
        int,
        About("Threads that read and augment coming batches; results do not depend on it.", at_least=0, at_most=64),
    ] = 2
    threads: Annotated[
        int | None,
        About("torch threads; null leaves torch's choice. The weights' last digits depend on it.", at_least=1),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.epochs is None) == (self.steps is None):
            raise ConfigError("give either epochs or steps, not both and not neither.")
        if not self.inputs or len(set(self.inputs)) != len(self.inputs):
            raise ConfigError(f"inputs must be one or more different feature keys, got {list(self.inputs)}.")
        if self.dataset.without and not self.mixture:
            raise ConfigError("dataset.without names cameras that other robots have; without a mixture, remove them.")
        for name, mixed in self.mixture.items():
            for key in (*mixed.keys, *mixed.without):
                if key not in self.inputs:
                    hint = nearest_name(key, self.inputs)
                    raise ConfigError(f"mixture.{name}: '{key}' is none of inputs: {', '.join(self.inputs)}.{hint}")
        for name in self.mixture:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ConfigError(f"mixture: name '{name}' may have letters, digits, '-' and '_' only.")
        if self.dataset.validation_fraction == 0.0:
            if self.early_stop_epochs is not None:
                raise ConfigError("early_stop_epochs needs validation, but dataset.validation_fraction is 0.")
            if self.schedule.name == "plateau":
                raise ConfigError("schedule.name 'plateau' needs validation, but dataset.validation_fraction is 0.")


@file_form_of(Recipe)
@dataclass(frozen=True, kw_only=True)
class RecipeFile(Recipe):
    """A recipe's file, which may leave out what it extends."""

    extends: Annotated[
        str | None, About("Recipe to start from, relative to this file; each field given here replaces its, whole.")
    ] = None


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
    value = parse_yaml(text, f"override '{override}': the value is not YAML", ConfigError)
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
