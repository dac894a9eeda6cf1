#!/usr/bin/env python3
"""Write docs/contract.md out of the contract's declarations; `make docs` calls it."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vla_ros.contract import schema  # noqa: E402
from vla_ros.contract.schema import file_forms  # noqa: E402
from vla_ros.schema import SchemaField  # noqa: E402
from vla_ros.schema.tables import table  # noqa: E402

TARGET = ROOT / "docs" / "contract.md"

INTRODUCTION = """\
# The robot's contract

<!-- Written by scripts/generate_contract_docs.py (`make docs`) from vla_ros/contract/schema. -->

One YAML file per robot, under `config/robots/`, says what a policy sees and does. The policy node, the recorder, the
converter and the replay read the same file, and its hash travels into every dataset and checkpoint.
`vla_ros contract check FILE` reads one and names the first mistake by file, place, value and nearest name.
`vla_ros schema contract` prints a JSON schema, with which editors complete and check the file as it is typed.
`config/robots/metaworld_sawyer.yaml` is a complete example.

`required` as a default means that the field must be there. An unknown or misspelt field is an error, and so is a field
that has no meaning for the type beside it. Topics are full names, as bags store them; launch remapping still applies.
ROS types are listed in [message types](message_types.md).
Numbers are finite. Streams of the same key are joined to one vector, in the order of the file.

## The hash

Two contracts share their hash when their numbers mean the same: then a policy trained under one fits the other, and
bags recorded under one fit the other. The column *hash* says of each field whether it counts, and why not where it does
not. A field at its default is left out, so that a field that a later version adds changes no hash.

This is version 2 of the hash. Version 1 left out how the action is recorded and the frames of inputs. Checkpoints,
datasets and bags that carry a hash of version 1 are recognised by it, and said to be so; whether they fit a robot is
decided by the fields of their own copy of the contract.
"""

PAGES: tuple[tuple[str, type, str, bool], ...] = (
    ("Top level", schema.RobotContract, "", True),
    ("`inputs`: the streams that are observed", schema.InputSpec, "", True),
    ("`image`: form of an Image or CompressedImage", schema.ImageSpec, "", True),
    ("`image.depth`: of an image of distances", schema.DepthRange, "", True),
    ("`image.map`: of an image of other numbers", schema.MapRange, "", True),
    ("`image.info`: calibration of the camera", schema.CameraInfoSpec, "", False),
    ("`points`: form of a PointCloud2, LaserScan, RadarScan, RadarTracks or Path", schema.PointsSpec, "", True),
    ("`window`: form of an Imu", schema.WindowSpec, "", True),
    ("`transform`: which of a TFMessage", schema.TransformSpec, "", True),
    ("`alignment` of an input or of the record", schema.AlignmentSpec, "", True),
    ("`qos` of an input, the goal, the record or a sink", schema.QosSpec, "", False),
    ("`action`: what a policy predicts", schema.ActionSpec, "", True),
    ("`action.gripper`", schema.GripperSpec, "", True),
    ("`action.record`: where the demonstrator's action is read", schema.RecordSpec, "", True),
    ("`action.sinks`: where commands are published", schema.SinkSpec, "", False),
    ("`action.limits`: what the [safety filter](safety.md) holds", schema.LimitsSpec, "", False),
    ("`action.limits.workspace`: box for the end effector, in the base frame", schema.LimitsSpec, "workspace", False),
    ("`action.measured`: where the robot's state is measured", schema.MeasuredSpec, "", False),
    ("`position`, `orientation` and `joints` of `action.measured`", schema.MeasuredPart, "", False),
    ("`instruction`: language", file_forms.InstructionFile, "", False),
    ("`goal`: pictures of what shall be reached", file_forms.GoalFile, "", False),
)
"""Heading, dataclass, section inside it, whether any of its fields counts in the hash."""


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for heading, kind, part, counts in PAGES:
        parts.append(f"## {heading}\n\n{table(kind, part, extra=('hash', _counts) if counts else None)}")
    return "\n".join(parts)


def _counts(entry: SchemaField) -> str:
    return f"no: {entry.about.unhashed}" if entry.about.unhashed else "yes"


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
