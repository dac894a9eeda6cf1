"""Example datasets that the tests of this folder share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from example_datasets import make


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of four episodes with an H.264 video; nobody may change it."""
    return make(tmp_path_factory.mktemp("tools") / "dataset")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with lossless images; nobody may change it."""
    return make(tmp_path_factory.mktemp("tools") / "pictures", "png")


@pytest.fixture
def unchanged(dataset: Path) -> Iterator[None]:
    """Hold that a test leaves the dataset as it was."""
    before = {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()}
    yield
    assert {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()} == before
