"""docs/contract.md is what the generator makes of the declarations now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from vla_ros.schema import fields_of, file_form

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "generate_contract_docs", ROOT / "scripts" / "generate_contract_docs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_contract_reference_is_up_to_date(generator: ModuleType) -> None:
    assert generator.TARGET.read_text(encoding="utf-8") == generator.render(), "run `make docs`"


def test_every_field_of_a_contract_has_a_row_with_a_meaning(generator: ModuleType) -> None:
    tables = dict(part.split("\n", 1) for part in generator.render().split("\n## ")[1:])
    for heading, kind, part, _ in generator.PAGES:
        for entry in fields_of(file_form(kind)):
            holder, _, name = entry.place.rpartition(".")
            assert (f"| `{name}` |" in tables[heading]) == (entry.about.in_file and holder == part), entry.name
            assert entry.about.description
