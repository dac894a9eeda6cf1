"""Packages as pip leaves them: modules, and a folder that describes them. Written by hand, so that they can break."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a package on Python's path; what it imported is forgotten afterwards."""
    before = set(sys.modules)

    def make(name: str, entry_points: str, modules: dict[str, str] | None = None, version: str = "1.0") -> Path:
        folder = tmp_path / f"{name}-{version}"
        about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (about / "entry_points.txt").write_text(entry_points)
        (about / "top_level.txt").write_text("\n".join(modules or {}))
        for module, content in (modules or {}).items():
            (folder / f"{module}.py").write_text(content)
        monkeypatch.syspath_prepend(str(folder))
        return folder

    yield make
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]
