#!/usr/bin/env python3
"""Write docs/message_types.md: every ROS type that a contract may name, from the types' rows."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vla_ros.contract.types import AsInput, AsRecord, AsSink, message_types  # noqa: E402

TARGET = ROOT / "docs" / "message_types.md"

INTRODUCTION = """\
# Message types

<!-- Written by scripts/generate_message_docs.py (`make docs`). Edit vla_ros/messages/types, not this file. -->

What a [contract](contract.md) may name as the type of an input, of a recorded action and of a command. A type is one
row: `vla_ros/messages/types` has a module per ROS package. [Add a row](add_a_message_type.md) there, or from another
package by an entry point of `vla_ros.messages` with the type's name, or with `vla_ros.messages.register_message`;
contracts, nodes, converter and replay then know it.
Types without a header live on receive time.
"""

NEEDS = {
    "text": "`alignment: {method: latch}`",
    "image": "`image`",
    "points": "`points`",
    "window": "`window`",
    "joints": "`joints`",
    "array": "`names`",
    "transform": "`transform`",
}
"""Form → what the contract must say."""

KEYS = """\
Sensors have the same key in every contract, of which the part in `<>` is the robot's own: a contract that calls one
otherwise is refused, with the right key. Efforts of a JointState, images of distances (`image.depth`) and images of
other numbers (`image.map`) have the second or third key. Other types have any key that begins with `observation.`."""

CARRIES = {"motion": "all but a gripper", "all": "all", "any": "those named", "one": "the one named"}


def render() -> str:
    """Return the page."""
    rows = list(message_types().values())
    parts = [INTRODUCTION, "## Types", "", "| type | header | read as, sent for |", "|---|---|---|"]
    parts += [f"| `{row.name}` | {'yes' if row.has_header else 'no'} | {row.meaning} |" for row in rows]
    parts += ["", "## As an input", "", KEYS, ""]
    parts += ["| type | key | needs | numbers by default |", "|---|---|---|---|"]
    parts += [_input(row.name, row.as_input) for row in rows if row.as_input]
    parts += ["", "## As a recorded action", "", "| type | representations | numbers of the action |", "|---|---|---|"]
    parts += [_record(row.name, row.as_record) for row in rows if row.as_record]
    parts += ["", "## As a command", "", "| type | representations | numbers of the action | sent |"]
    parts += ["|---|---|---|---|", *(_sink(row.name, row.as_sink) for row in rows if row.as_sink)]
    return "\n".join([*parts, ""])


def _input(name: str, kind: AsInput) -> str:
    keys = ", ".join(f"`{key.pattern}`" for key in kind.keys)
    chosen = ", ".join(kind.fields)
    if further := [field for field in kind.all_fields if field not in kind.fields]:
        chosen += f"; also {', '.join(further)}"
    return f"| `{name}` | {keys} | {NEEDS.get(kind.form, '')} | {chosen} |"


def _record(name: str, kind: AsRecord) -> str:
    return f"| `{name}` | {', '.join(kind.representations)} | {CARRIES[kind.carries]} |"


def _sink(name: str, kind: AsSink) -> str:
    sent = "once per prediction, every step" if kind.whole_chunk else "at `control_rate_hz`"
    sent = "when it changes, as a goal" if "/action/" in name else sent
    telemetry = ", in a dry run too" if kind.is_telemetry else ""
    return f"| `{name}` | {', '.join(kind.representations)} | {CARRIES[kind.carries]} | {sent}{telemetry} |"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
