"""From the steps that a recipe names to the list of steps of one policy. No statistics, no batches."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.processors.normalise import Normalise
from vla_ros.processors.options import ProcessorOptions
from vla_ros.processors.resize import Resize, ResizeOptions
from vla_ros.processors.step import Features, ProcessorStep, StepChoice
from vla_ros.registry import PROCESSORS
from vla_ros.schema import Section, read_dataclass, to_plain

RESIZE, NORMALISE, TEXT = Resize.name, Normalise.name, "text"
STANDARD = (RESIZE, NORMALISE, TEXT)
"""Steps whose options stand elsewhere in a recipe, and which are there without being named."""


def build_steps(
    choices: Sequence[StepChoice],
    options: ProcessorOptions,
    inputs: Mapping[str, FeatureSpec],
    action: FeatureSpec,
    place: str = "processors",
) -> tuple[ProcessorStep, ...]:
    """Build the steps that are named and those that every policy has; each knows the features before and after it.

    Args:
        choices: Steps by name, in order. `resize` and `normalise` stand at the end where they are not named.
        options: Of `resize` and `normalise`.
        inputs: As the robot has them.
        action: As the robot has it.
        place: Where the steps are named, for messages.

    Raises:
        ConfigError: A step is unknown, named where it must not be, or its options are wrong for the features there.
    """
    _check_standard(choices, options, place)
    steps: list[ProcessorStep] = []
    features = Features(dict(inputs), action)
    for index, choice in enumerate(_with_standard(choices, options)):
        at = f"{place}[{index}] {choice.name}"
        if choice.name == RESIZE and options.image_size is not None:
            step: ProcessorStep = Resize(ResizeOptions(size=options.image_size), features)
        elif choice.name == NORMALISE:
            step = Normalise(options, features)
        else:
            step = _build(choice, features, at)
            if step.needs_units and any(isinstance(before, Normalise) for before in steps):
                raise ConfigError(f"{at}: works on numbers in the robot's units; put it before 'normalise'.")
        steps.append(step)
        features = step.after
    return tuple(steps)


def normaliser_of(steps: Iterable[ProcessorStep]) -> Normalise:
    """Return the step that normalises; every list has one."""
    return next(step for step in steps if isinstance(step, Normalise))


def choices_of(steps: Iterable[ProcessorStep]) -> list[dict[str, Any]]:
    """Return steps as plain data for YAML: names, and the options of those that have their own."""
    plain: list[dict[str, Any]] = []
    for step in steps:
        own = {} if step.name in STANDARD else to_plain(step.options)
        plain.append({"name": step.name, **({"options": own} if own else {})})
    return plain


def _build(choice: StepChoice, features: Features, place: str) -> ProcessorStep:
    kind: type[ProcessorStep] = PROCESSORS[choice.name]
    if getattr(kind, "name", None) != choice.name:  # a checkpoint says which step it is by the class's name
        raise ConfigError(f"{place}: the class {kind.__qualname__} has the name {getattr(kind, 'name', None)!r}.")
    options: Any = read_dataclass(Section(place, "", dict(choice.options), ConfigError), kind.options_class)
    try:
        return kind(options, features)
    except ConfigError as reason:
        raise ConfigError(f"{place}: {reason}") from reason


def _check_standard(choices: Sequence[StepChoice], options: ProcessorOptions, place: str) -> None:
    names = [choice.name for choice in choices]
    for index, choice in enumerate(choices):
        at = f"{place}[{index}] {choice.name}"
        if choice.name == TEXT:
            raise ConfigError(f"{at}: comes from the policy's option 'text' and stands last; remove it.")
        if choice.name in (RESIZE, NORMALISE):
            if choice.options:
                raise ConfigError(f"{at}: its options are those of 'normalisation'; remove them here.")
            if names.count(choice.name) > 1:
                raise ConfigError(f"{at}: stands there twice; once is enough.")
        if choice.name == RESIZE and options.image_size is None:
            raise ConfigError(f"{at}: needs normalisation.image_size, the size to resize to.")
        if choice.name == RESIZE and NORMALISE in names[:index]:
            raise ConfigError(f"{at}: images are resized before they are normalised; put it before 'normalise'.")


def _with_standard(choices: Sequence[StepChoice], options: ProcessorOptions) -> list[StepChoice]:
    chosen, names = list(choices), [choice.name for choice in choices]
    if RESIZE not in names and options.image_size is not None:
        at = names.index(NORMALISE) if NORMALISE in names else len(chosen)
        chosen.insert(at, StepChoice(name=RESIZE))
    if NORMALISE not in names:
        chosen.append(StepChoice(name=NORMALISE))
    return chosen
