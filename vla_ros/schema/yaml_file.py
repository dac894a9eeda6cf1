"""Reads YAML that may come from a stranger: bounded in size, nesting and in what its aliases unfold to."""

from pathlib import Path
from typing import Any

import yaml

from vla_ros.data_types import UserError, nearest_name
from vla_ros.data_types.foreign_text import plain

MAX_BYTES = 4_000_000
"""PyYAML takes a minute for more, and no configuration is as long."""

MAX_VALUES = 200_000
"""Values of a file when every alias is replaced by what it stands for."""

MAX_DEPTH = 100
"""Levels of nesting."""

_LONGEST_REASON = 200


def load_yaml(path: Path, error: type[UserError]) -> Any:
    """Return the parsed content of a YAML file.

    Raises:
        UserError: Of the given type, when the file is missing, unreadable, too large or not YAML.
    """
    if not path.is_file():
        nearby = nearest_name(path.name, (p.name for p in path.parent.glob("*.yaml")))
        raise error(f"{path}: no such file.{nearby}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise error(f"{path}: holds {size} bytes, expected at most {MAX_BYTES} of a configuration.")
        text = path.read_text(encoding="utf-8")
    except OSError as reason:
        raise error(f"{path}: cannot be read: {reason.strerror}.") from reason
    except ValueError as reason:  # not UTF-8
        raise error(f"{path}: not readable as YAML: {plain(reason, _LONGEST_REASON)}") from reason
    return parse_yaml(text, str(path), error)


def parse_yaml(text: str, source: str, error: type[UserError], loader: Any = yaml.SafeLoader) -> Any:
    """Return the parsed content of YAML.

    Args:
        text: The YAML.
        source: Name of what holds it, for messages.
        error: Type of the errors raised.
        loader: One of PyYAML's two safe loaders; the C one is for files that programs write.

    Raises:
        UserError: It is not YAML, too deep, unfolds to too much, gives a field twice or holds what is no text.
    """
    reader = loader(text)
    try:
        node = reader.get_single_node()
        if node is None:
            return None
        problem = _Walk().problem(node)
        if not problem:
            return reader.construct_document(node)
    except (yaml.YAMLError, ValueError, RecursionError) as reason:  # no such date, an alias of itself
        words = " ".join(str(reason).split())
        raise error(f"{source}: not readable as YAML: {plain(words, _LONGEST_REASON)}") from reason
    finally:
        reader.dispose()
    raise error(f"{source}: {problem}")


class _Walk:
    """Looks at every node once, however many aliases lead to it."""

    def __init__(self) -> None:
        self._values: dict[int, int] = {}  # node → values it unfolds to

    def problem(self, root: yaml.Node) -> str:
        """Return a complaint about the first thing that no configuration has, or an empty string."""
        return self._problem(root, 0)

    def _problem(self, node: yaml.Node, depth: int) -> str:
        if id(node) in self._values:
            inside_itself = f"not readable as YAML: line {_line(node)}: an alias stands for what it is a part of."
            return "" if self._values[id(node)] else inside_itself
        self._values[id(node)] = 0  # not yet known
        if isinstance(node, yaml.ScalarNode):
            self._values[id(node)] = 1
            return _half_character(node)
        found = _too_deep(node, depth) or _repeated_key(node)
        children = _children(node)
        for child in children:
            found = found or self._problem(child, depth + 1)
        if found:
            return found
        self._values[id(node)] = 1 + sum(self._values[id(child)] for child in children)
        too_many = self._values[id(node)] > MAX_VALUES
        return f"line {_line(node)}: its aliases unfold to more than {MAX_VALUES} values." if too_many else ""


def _children(node: yaml.Node) -> list[yaml.Node]:
    pairs: bool = isinstance(node, yaml.MappingNode)
    return [part for pair in node.value for part in pair] if pairs else list(node.value)


def _half_character(node: yaml.ScalarNode) -> str:
    surrogate = next((c for c in node.value if 0xD800 <= ord(c) < 0xE000), "")
    return f"line {_line(node)}: {surrogate!a} is half a character and no text." if surrogate else ""


def _too_deep(node: yaml.Node, depth: int) -> str:
    return f"line {_line(node)}: is nested more than {MAX_DEPTH} levels deep." if depth > MAX_DEPTH else ""


def _repeated_key(node: yaml.Node) -> str:
    """Return a complaint about the first field given twice; YAML alone keeps the last one in silence."""
    if not isinstance(node, yaml.MappingNode):
        return ""
    seen: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                return f"line {_line(key)}: '{plain(key.value)}' is given twice; keep one of them."
            seen.add(key.value)
    return ""


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
