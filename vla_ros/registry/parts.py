"""Which options of a configuration name parts, so that names are checked early and a checkpoint can say whose they are.

An option is declared with its kind: ``backbone: EncoderName = "cnn"``.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any

from vla_ros.data_types import ConfigError
from vla_ros.data_types.foreign_text import plain
from vla_ros.registry.kinds import KINDS
from vla_ros.registry.owners import OWN, Owner
from vla_ros.schema import fields_of

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class PartName:
    """Marks an option whose value is a name of a kind: ``Annotated[str, PartName("encoders")]``."""

    kind: str

    def built_in(self) -> Sequence[str]:
        """Return the names of the kind that this package has."""
        return KINDS[self.kind].built_in

    def known(self) -> Sequence[str]:
        """Return the names of the kind, built in and of other packages."""
        return KINDS[self.kind].names()


ActionHeadName = Annotated[str, PartName("action_heads")]
EncoderName = Annotated[str, PartName("encoders")]
FilmTrunkName = Annotated[str, PartName("film_trunks")]
FusionName = Annotated[str, PartName("fusions")]
HeadName = Annotated[str, PartName("heads")]
LanguageModelName = Annotated[str, PartName("language_models")]
ObjectiveName = Annotated[str, PartName("objectives")]
ProcessorName = Annotated[str, PartName("processors")]
CoordinatesName = Annotated[str, PartName("coordinates")]
MemoryName = Annotated[str, PartName("memories")]
PoolingName = Annotated[str, PartName("poolings")]
SensorName = Annotated[str, PartName("sensors")]
TextModelName = Annotated[str, PartName("text_models")]


def named_parts(config: Any) -> Iterator[tuple[str, str, str]]:
    """Iterate over (option, kind, name) of the parts that a configuration dataclass names, nested ones too."""
    for entry in fields_of(type(config)):
        value = getattr(config, entry.name)
        if is_dataclass(value) and not isinstance(value, type):
            yield from ((f"{entry.name}.{option}", kind, name) for option, kind, name in named_parts(value))
        elif isinstance(value, Mapping):
            for key, item in value.items():
                if is_dataclass(item) and not isinstance(item, type):
                    yield from (
                        (f"{entry.name}.{key}.{option}", kind, name) for option, kind, name in named_parts(item)
                    )
        elif isinstance(entry.named, PartName) and isinstance(value, str):
            yield entry.name, entry.named.kind, value


def check_names(config: Any) -> None:
    """Refuse names of parts that there are not. Imports no part.

    Raises:
        ConfigError: Names the option, the nearest name and those that there are.
    """
    for option, kind, name in named_parts(config):
        if name not in KINDS[kind]:
            try:
                KINDS[kind].entry(name)
            except ConfigError as reason:
                raise ConfigError(f"{option}: {reason}") from reason


def foreign_parts(policy: str, config: Any, others: Sequence[tuple[str, str]] = ()) -> list[dict[str, str]]:
    """Return the parts of other packages that a policy is made of: kind, name, package and version of each.

    Args:
        policy: Its name.
        config: Its configuration.
        others: Kind and name of what belongs to it beside.
    """
    used = [("policies", policy), *((kind, name) for _, kind, name in named_parts(config)), *others]
    found = []
    for kind, name in dict.fromkeys(used):
        owner = KINDS[kind].entry(name).owner if name in KINDS[kind] else OWN
        if owner != OWN:
            found.append({"kind": kind, "name": name, "package": owner.package, "version": owner.version})
    return found


def check_provided(parts: Sequence[Mapping[str, str]]) -> list[str]:
    """Return what is wrong with the parts that `foreign_parts` returned elsewhere, a phrase each; nothing is imported.

    Args:
        parts: Texts of a stranger.
    """
    problems = []
    for part in parts:
        was = Owner(plain(part["package"]), plain(part["version"]))
        registry = KINDS.get(part["kind"])
        if registry is None:
            problems.append(f"it uses a '{plain(part['kind'])}', a kind of part that this version does not know")
            continue
        phrase = f"it uses the {registry.noun} '{plain(part['name'])}' of {was}"
        if part["name"] not in registry:
            problems.append(f"{phrase}, which is not installed here; {_remedy(was)}")
        elif (now := registry.entry(part["name"]).owner).package != was.package:
            problems.append(f"{phrase}, but here {now} provides one of this name; {_remedy(was)} and remove the other")
        elif now.version != was.version:
            _LOG.warning("%s, and here it is of version %s", phrase, now.version or "none")
    return problems


def _remedy(owner: Owner) -> str:
    if owner.version:
        return f"pip install {owner.package}=={owner.version}"
    return "import that module first, or make it a package with an entry point"
