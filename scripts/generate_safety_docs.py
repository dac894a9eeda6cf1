#!/usr/bin/env python3
"""Write the table of reasons into docs/safety.md, from `vla_ros.safety.REASONS`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vla_ros.safety import DROPPING, REASONS  # noqa: E402

TARGET = ROOT / "docs" / "safety.md"
HEAD = "| name | meaning | command |\n|---|---|---|\n"
END = "\n## What it cannot do"


def render() -> str:
    """Return the page with the table of today."""
    text = TARGET.read_text(encoding="utf-8")
    before, _, rest = text.partition(HEAD)
    _, _, after = rest.partition(END)
    rows = [
        f"| `{name}` | {sentence} | {'dropped' if name in DROPPING else 'changed'} |"
        for name, sentence in REASONS.items()
    ]
    return before + HEAD + "\n".join(rows) + "\n" + END + after


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
