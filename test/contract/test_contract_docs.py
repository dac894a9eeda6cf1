"""docs/contract.md is what the generator makes of the parser now."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

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


def test_every_field_that_the_parser_reads_has_a_meaning_in_the_reference(generator: ModuleType) -> None:
    assert generator.read_samples().keys() == generator.MEANINGS.keys()
