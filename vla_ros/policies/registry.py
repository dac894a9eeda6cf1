"""Names → architectures. Each is imported when first asked for, so an absent optional package hurts only its users.

Another package registers its own through an entry point of the group ``vla_ros.policies``:
``my_policy = "my_package.policy:MyPolicy"``. Built-in names win.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.policies.base import Policy, PolicyConfig
from vla_ros.schema import Section, read_dataclass, to_plain

ENTRY_POINT_GROUP = "vla_ros.policies"

_BUILT_IN = {
    "act": "vla_ros.policies.act:ActPolicy",
    "bc": "vla_ros.policies.bc:BcPolicy",
    "flow_ar": "vla_ros.policies.flow_ar:FlowArPolicy",
    "grp": "vla_ros.policies.grp:GrpPolicy",
    "pi0": "vla_ros.policies.pi0:Pi0Policy",
    "rt1": "vla_ros.policies.rt1:Rt1Policy",
}


def policy_names() -> tuple[str, ...]:
    """Return the names of all policies, built in and registered by other packages."""
    return tuple(sorted({*_BUILT_IN, *_registered()}))


def policy_class(name: str) -> type[Policy]:
    """Import an architecture.

    Raises:
        ConfigError: No policy has this name, or its package cannot be imported.
    """
    if name in _BUILT_IN:
        module, attribute = _BUILT_IN[name].split(":")
        built_in: type[Policy] = getattr(import_module(module), attribute)
        return built_in
    registered = _registered()
    if name not in registered:
        known = policy_names()
        raise ConfigError(f"policy '{name}' is not one of {', '.join(known)}.{nearest_name(name, known)}")
    try:
        loaded = registered[name].load()
    except (ImportError, AttributeError) as reason:
        raise ConfigError(f"policy '{name}' ({registered[name].value}) cannot be imported: {reason}.") from reason
    if not (isinstance(loaded, type) and issubclass(loaded, Policy)):
        raise ConfigError(f"policy '{name}': {registered[name].value} is no subclass of vla_ros.policies.Policy.")
    return loaded


def policy_config(name: str, config: Mapping[str, Any], source: str = "") -> PolicyConfig:
    """Build and check the configuration of a policy from plain data.

    Args:
        name: Name of the policy.
        config: Its fields; ``inputs`` and ``action`` hold features, as objects or as mappings.
        source: Name of the file it comes from, for messages.

    Raises:
        ConfigError: A field is unknown, missing or of another type, or contradicts another.
    """
    cls = policy_class(name)
    section = Section(source or f"policy {name}", "", to_plain(config), ConfigError)
    return read_dataclass(section, cls.config_class)


def build_policy(name: str, config: Mapping[str, Any], source: str = "") -> Policy:
    """Build a policy with fresh weights; arguments and errors as `policy_config`."""
    checked = policy_config(name, config, source)
    with options_of(source or f"policy {name}"):
        return policy_class(name)(checked)


@contextmanager
def options_of(source: str) -> Iterator[None]:
    """Say in errors of building a policy whose options they are: its parts know the numbers, not where they stand."""
    try:
        yield
    except ConfigError as reason:
        raise ConfigError(f"{source}: {reason}") from reason


def _registered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
