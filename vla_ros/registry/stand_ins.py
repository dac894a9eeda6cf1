"""Things that stand in for others of the same name, in tests: a language model that is not at hand, a counted one."""

from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from vla_ros.registry.registry import Registry

Thing = TypeVar("Thing")


class StandIns(MutableMapping[str, Thing], Generic[Thing]):
    """A registry as a dictionary that can be overwritten.

    Args:
        registry: Gives what nothing stands in for.
        replaced: Name → what stands in for it; the registry looks here first.
    """

    def __init__(self, registry: "Registry[Thing]", replaced: dict[str, Thing]) -> None:
        self._registry, self._replaced = registry, replaced

    def __getitem__(self, name: str) -> Thing:
        """Return what stands in for a name, or its own thing."""
        return self._registry[name]

    def __setitem__(self, name: str, thing: Thing) -> None:
        """Let a thing stand in for a name that there is."""
        self._registry.entry(name)
        self._replaced[name] = thing

    def __delitem__(self, name: str) -> None:
        """Let the name's own thing be found again."""
        self._replaced.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the registry's names."""
        return iter(self._registry)

    def __len__(self) -> int:
        """Return how many names there are."""
        return len(self._registry)
