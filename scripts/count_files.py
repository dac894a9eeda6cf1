"""Counts the files that one opens to understand an architecture: its policy, and what that imports, and so on.

    python scripts/count_files.py            # act and pi0
    python scripts/count_files.py act rt1    # these, with the list of files

An import of a name from a package is followed to the file that defines the name, since that is the file one opens. Left
out are packages that describe values and options and compute nothing of a network: data_types, contract, schema,
registry and processors (from which policies take `TextSpec` alone). What a configuration chooses by a name (a
backbone, an objective) is opened when it is chosen, and does not count.
"""

import ast
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "vla_ros"
LEFT_OUT = ("data_types", "contract", "schema", "registry", "processors")
SHOWN = ("act", "pi0")


def files_of(policy: str, root: Path = ROOT) -> list[str]:
    """Return the files behind a policy, relative to the package, in the order in which they are met.

    Args:
        policy: Name of the folder in ``vla_ros/policies``.
        root: Of the repository.
    """
    start = f"{PACKAGE}.policies.{policy}.policy"
    if _file(start, root) is None:
        raise SystemExit(f"count_files: {root / PACKAGE / 'policies' / policy / 'policy.py'}: no such file.")
    met, waiting = [], [start]
    while waiting:
        module = waiting.pop(0)
        if module in met or module.split(".")[1] in LEFT_OUT:
            continue
        met.append(module)
        waiting += [found for name in _imports(module, root) if (found := _defined_in(*name, root)) is not None]
    paths = [_file(module, root) for module in met]
    return [str(path.relative_to(root / PACKAGE)) for path in paths if path is not None and path.name != "__init__.py"]


@cache
def _imports(module: str, root: Path) -> tuple[tuple[str, str], ...]:
    """Return (module, name) of what a file imports from the package, but for types alone; name may be empty."""
    path = _file(module, root)
    if path is None:
        return ()
    found: list[tuple[str, str]] = []

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE:
            found.extend((node.module, alias.name) for alias in node.names)
        if isinstance(node, ast.Import):
            found.extend((alias.name, "") for alias in node.names if alias.name.split(".")[0] == PACKAGE)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(path.read_text(encoding="utf-8")))
    return tuple(found)


def _defined_in(module: str, name: str, root: Path) -> str | None:
    """Return the module that defines a name which is imported from another one."""
    if name and _file(f"{module}.{name}", root) is not None:
        return f"{module}.{name}"
    path = _file(module, root)
    if path is None or path.name != "__init__.py":
        return module if path is not None else None
    for source, imported in _imports(module, root):
        if imported == name:
            return _defined_in(source, name, root)
    return module


@cache
def _file(module: str, root: Path) -> Path | None:
    base = root.joinpath(*module.split("."))
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def main(arguments: list[str]) -> int:
    """Print the number of files of each policy, and of those that are asked for, which."""
    for policy in arguments or SHOWN:
        files = files_of(policy)
        print(f"{policy}: {len(files)} files")
        for file in files if arguments else ():
            print(f"  {file}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
