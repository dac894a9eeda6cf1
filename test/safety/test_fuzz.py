"""2,000 seeds of the property test in fuzz.py; `make fuzz` runs 100,000 and keeps what came of it."""

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import fuzz  # noqa: E402

BLOCK = 200


@pytest.mark.parametrize(
    "first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(BLOCK, 2000, BLOCK))]
)
def test_no_command_breaks_a_rule(first: int) -> None:
    assert fuzz.run_seeds(first, BLOCK)["broken"] == []


def test_an_episode_is_decided_by_its_seed() -> None:
    assert fuzz.run_seed(5) == fuzz.run_seed(5)


def test_the_kept_run_had_a_hundred_thousand_seeds_and_broke_no_rule() -> None:
    kept = json.loads((HERE / "fuzz_result.json").read_text(encoding="utf-8"))
    assert kept["seeds"] >= 100_000
    assert kept["broken"] == 0
