#!/usr/bin/env python3
"""Write docs/configuration.md: recipes, policy options and the simulator's file, out of their declarations."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from vla_ros.networks import AttentionOptions, ExpertOptions, VisionOptions  # noqa: E402
from vla_ros.policies import policy_class, policy_names  # noqa: E402
from vla_ros.processors import ProcessorOptions, StepChoice, TextSpec  # noqa: E402
from vla_ros.processors.relative_actions import PoseNames, RelativeActionsOptions  # noqa: E402
from vla_ros.processors.rotation_form import RotationFormOptions  # noqa: E402
from vla_ros.schema.tables import table  # noqa: E402
from vla_ros.sim.config import CameraConfig, LidarConfig  # noqa: E402
from vla_ros.sim.metaworld.config import SimConfig  # noqa: E402
from vla_ros.sim.mobile_base.config import (  # noqa: E402
    BaseCamera,
    Drive,
    Inertial,
    MobileBaseConfig,
    Odometer,
    Radar,
    Scanner,
)
from vla_ros.training import recipe  # noqa: E402

TARGET = ROOT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration files

<!-- Written by scripts/generate_configuration_docs.py (`make docs`) from the dataclasses that the files become. -->

Training recipes (`config/training`), options of policies (`config/policies`) and the simulated robot (`config/sim`).
The robot's contract has [a page of its own](contract.md), node parameters too ([parameters](parameters.md)).

A field is checked when it is read: type, bounds, choices, spelling. An option that means nothing beside the others is
refused unless it stands at its default. Numbers are finite. Aliases and merge keys of YAML work within bounds.

Editors complete and check these files as they are typed: `vla_ros schema NAME --output FILE` writes a JSON schema,
where NAME is `contract`, `recipe`, `sim` (of the arm), `sim_mobile_base`, `policy_node` or a policy. With the YAML
language server, begin a file with `# yaml-language-server: $schema=FILE`.
"""

POLICIES = {name: policy_class(name).config_class for name in policy_names()}
PAGES: tuple[tuple[str, type], ...] = (
    ("Recipe", recipe.Recipe),
    ("Recipe: `dataset`", recipe.DataOptions),
    ("Recipe: `mixture`, each dataset", recipe.MixedDataset),
    ("Recipe: `policy`", recipe.PolicyChoice),
    ("Recipe: `normalisation`", ProcessorOptions),
    ("Recipe: `processors`", StepChoice),
    ("Processor `relative_actions`", RelativeActionsOptions),
    ("Processor `relative_actions`: `action`, `measured`", PoseNames),
    ("Processor `rotation_form`", RotationFormOptions),
    ("Recipe: `optimiser`", recipe.OptimiserOptions),
    ("Recipe: `schedule`", recipe.ScheduleOptions),
    ("Recipe: `augmentation`", recipe.AugmentationOptions),
    *((f"Policy `{name}`", kind) for name, kind in POLICIES.items() if kind.__module__.startswith("vla_ros.")),
    ("Policies: `text`", TextSpec),
    ("Policies: `vision`", VisionOptions),
    ("Policies: `attention`", AttentionOptions),
    ("Policies: `prefix_expert`, `action_expert`", ExpertOptions),
    ("Simulated robot", SimConfig),
    ("Simulated robot: `cameras`", CameraConfig),
    ("Simulated robot: `lidars`", LidarConfig),
    ("Simulated mobile base", MobileBaseConfig),
    ("Simulated mobile base: `cameras`", BaseCamera),
    ("Simulated mobile base: `scanners`", Scanner),
    ("Simulated mobile base: `radars`", Radar),
    ("Simulated mobile base: `imu`", Inertial),
    ("Simulated mobile base: `odometry`", Odometer),
    ("Simulated mobile base: `drive`", Drive),
)


def render() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    for heading, kind in PAGES:
        leave_out = ("inputs", "action") if heading.startswith("Policy ") else ()
        parts.append(f"## {heading}\n\n{table(kind, leave_out=leave_out)}")
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
