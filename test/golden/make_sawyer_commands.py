"""Record what the shipped policy commands the simulated Sawyer arm in lock-step, before and after the safety filter.

Needs EGL. Run through `make golden`; a difference means that the shipped policy's commands have changed.
"""

import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from vla_ros.cli.main import main
from vla_ros.data_types import Command
from vla_ros.safety import FilterResult, SafetyFilter

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(__file__).with_name("sawyer_commands.npz")
EPISODES = 6


def record() -> dict[str, Any]:
    """Return wanted action, newest measured position and what passed, a row per command."""
    rows: list[tuple[int, int, Any, Any, Any]] = []
    known: dict[int, int] = {}
    unwrapped = SafetyFilter.filter
    last_ns = [0]

    def filter_and_note(self: SafetyFilter, command: Command, measured: Any = None) -> FilterResult:
        result = unwrapped(self, command, measured)
        assert result.command is not None
        position = getattr(measured, "position", measured)
        if command.effect_ns < last_ns[0] or not rows:  # simulated time begins again with every episode
            known[len(known)] = len(rows)
        last_ns[0] = command.effect_ns
        rows.append((len(known) - 1, command.effect_ns, command.action, position, result.command.action))
        return result

    with mock.patch.object(SafetyFilter, "filter", filter_and_note), tempfile.TemporaryDirectory() as folder:
        checkpoint = str(ROOT / "models" / "metaworld_push_bc")
        main(["rollout", "--checkpoint", checkpoint, "--episodes", str(EPISODES), "--in-process", "--output", folder])
    names = ("episode", "effect_ns", "wanted", "position", "passed")
    return {name: np.array([row[i] for row in rows]) for i, name in enumerate(names)}


if __name__ == "__main__":
    np.savez_compressed(TARGET, **record())
