"""From the name of an architecture to a policy: its class, its checked configuration, fresh weights.

The names stand in `vla_ros.registry.POLICIES`: built in, of the entry points ``vla_ros.policies`` of other packages, or
registered in this process. Each is imported when first asked for.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from vla_ros.data_types import ConfigError
from vla_ros.policies.base import Policy, PolicyConfig
from vla_ros.policies.old_names import current_policy
from vla_ros.registry import POLICIES
from vla_ros.schema import Section, read_dataclass, to_plain

ENTRY_POINT_GROUP = POLICIES.group


def policy_names() -> tuple[str, ...]:
    """Return the names of all policies, built in and registered by other packages."""
    return POLICIES.names()


def policy_class(name: str) -> type[Policy]:
    """Import an architecture.

    Raises:
        ConfigError: No policy has this name, or two have, or its package cannot be imported.
    """
    kind: type[Policy] = POLICIES[name]
    if getattr(kind, "name", None) != name:  # a checkpoint says which policy it is by the class's name
        own = getattr(kind, "name", None)
        raise ConfigError(
            f"policy '{name}' is the class {kind.__qualname__}, whose name is {own!r}; give both one name."
        )
    return kind


def policy_config(name: str, config: Mapping[str, Any], source: str = "") -> PolicyConfig:
    """Build and check the configuration of a policy from plain data.

    Args:
        name: Name of the policy.
        config: Its fields; ``inputs`` and ``action`` hold features, as objects or as mappings.
        source: Name of the file it comes from, for messages.

    Raises:
        ConfigError: A field is unknown, missing or of another type, or contradicts another.
    """
    name, options = current_policy(name, to_plain(config), source)
    section = Section(source or f"policy {name}", "", options, ConfigError)
    return read_dataclass(section, policy_class(name).config_class)


def build_policy(name: str, config: Mapping[str, Any], source: str = "") -> Policy:
    """Build a policy with fresh weights; arguments and errors as `policy_config`."""
    checked = policy_config(name, config, source)
    with options_of(source or f"policy {name}"):
        return policy_class(current_policy(name, to_plain(config))[0])(checked)


@contextmanager
def options_of(source: str) -> Iterator[None]:
    """Say in errors of building a policy whose options they are: its parts know the numbers, not where they stand."""
    try:
        yield
    except ConfigError as reason:
        raise ConfigError(f"{source}: {reason}") from reason
