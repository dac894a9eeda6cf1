"""The table in docs/safety.md is what the generator makes of the reasons now."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_table_of_reasons_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("generate_safety_docs", ROOT / "scripts" / "generate_safety_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "run `make docs`"
