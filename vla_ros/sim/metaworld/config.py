"""What stands behind each input of a contract in MetaWorld, read from its file under ``config/sim``.

Owns the description of simulated cameras, joints and scanners. No MuJoCo, no ROS: a configuration can be
checked on a machine that has neither.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vla_ros.data_types import ConfigError
from vla_ros.schema import About, Section, given, load_yaml, read_dataclass
from vla_ros.sim.config import CameraConfig, LidarConfig


@dataclass(frozen=True)
class SimConfig:
    """Sources of a simulated robot's sensors."""

    cameras: Annotated[dict[str, CameraConfig], About("Feature key → camera.")] = field(default_factory=dict)
    joints: Annotated[
        dict[str, str], About("Joint name in the contract → joint of the model, or `gripper_opening`.")
    ] = field(default_factory=dict)
    lidars: Annotated[dict[str, LidarConfig], About("Feature key → scanner.")] = field(default_factory=dict)
    settle_s: Annotated[float, About("Simulated after a reset before the episode's clock starts.", "s", at_least=0)] = (
        0.5
    )
    gripper_slowdown: Annotated[
        float,
        About(
            "How many times longer than MetaWorld's own the gripper takes to close. MetaWorld's scripted experts close "
            "it while the hand descends, with a hand that moves at up to 0.8 m/s; a hand that is k times slower needs "
            "fingers that are, or they meet above the object.",
            at_least=1,
        ),
    ] = 1.0
    end_effector_frame: Annotated[str, About("frame_id of the hand.")] = "end_effector_link"
    simulator: Annotated[Literal["metaworld"], About("The simulator that this is a file of.")] = "metaworld"
    source: Annotated[str, About("File it was read from, for messages.", in_file=False)] = "simulation"


def load_sim_config(path: str | Path) -> SimConfig:
    """Read a simulation file.

    Raises:
        ConfigError: The file is missing or malformed; names the place, the value and what was expected.
    """
    path = Path(path)
    return parse_sim_config(load_yaml(path, ConfigError), str(path))


def parse_sim_config(content: Any, source: str = "simulation") -> SimConfig:
    """Build a `SimConfig` from parsed YAML.

    Raises:
        ConfigError: As `load_sim_config`.
    """
    top = Section(source, "", content, ConfigError)
    config = read_dataclass(top, SimConfig, {"source": given(source)})
    for key, lidar in config.lidars.items():
        if lidar.max_range_m <= lidar.min_range_m:
            reason = f"{lidar.max_range_m:g} is not above min_range_m {lidar.min_range_m:g}"
            raise top.fail(f"lidars.{key}.max_range_m", reason)
        if not lidar.elevations_deg:
            raise top.fail(f"lidars.{key}.elevations_deg", "must name at least one ring")
    return config
