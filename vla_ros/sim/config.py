"""What stands behind each input of a contract in simulation, read from ``config/sim/*.yaml``.

Owns the description of simulated cameras, joints and scanners. No MuJoCo, no ROS: a configuration can be
checked on a machine that has neither.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vla_ros.contract import Section, load_yaml
from vla_ros.data_types import ConfigError

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class CameraConfig:
    """One rendered camera.

    Attributes:
        camera: Name of a camera in the model.
        height: Pixels of the published image.
        width: Pixels of the published image.
        fovy_deg: Vertical field of view in degrees, or None for the model's own.
        target: Point in the base frame, in m, at which a camera fixed in the scene is aimed upright, or
            None for the model's own orientation.
    """

    camera: str
    height: int
    width: int
    fovy_deg: float | None = None
    target: Vector3 | None = None


@dataclass(frozen=True)
class LidarConfig:
    """One scanner of `len(elevations_deg)` rings of `azimuths` rays, fixed in the scene.

    Attributes:
        position: Of the scanner in the base frame, in m.
        yaw_deg: Turn about the base frame's z axis; the scanner's x axis is the middle of its field of view.
        elevations_deg: One ring each, positive upwards.
        azimuths: Rays in a ring.
        horizontal_fov_deg: Angle between the first and the last ray of a ring.
        min_range_m: Nearer echoes are not points.
        max_range_m: Farther echoes are not points.
    """

    position: Vector3
    elevations_deg: tuple[float, ...]
    azimuths: int
    yaw_deg: float = 0.0
    horizontal_fov_deg: float = 360.0
    min_range_m: float = 0.05
    max_range_m: float = 10.0


@dataclass(frozen=True)
class SimConfig:
    """Sources of a simulated robot's sensors.

    Attributes:
        cameras: Feature key → camera.
        joints: Joint name in the contract → joint of the model, or ``gripper_opening``.
        lidars: Feature key → scanner.
        settle_s: Simulated after a reset before the episode's clock starts, in s.
        gripper_slowdown: How many times longer than MetaWorld's own the gripper takes to close. MetaWorld's
            scripted experts close it while the hand descends, with a hand that moves at up to 0.8 m/s; a
            hand that is k times slower needs fingers that are, or they meet above the object.
        end_effector_frame: frame_id of the hand.
        source: File it was read from, for messages.
    """

    cameras: Mapping[str, CameraConfig] = field(default_factory=dict)
    joints: Mapping[str, str] = field(default_factory=dict)
    lidars: Mapping[str, LidarConfig] = field(default_factory=dict)
    settle_s: float = 0.5
    gripper_slowdown: float = 1.0
    end_effector_frame: str = "end_effector_link"
    source: str = "simulation"


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
    top.scalar("simulator", str, "metaworld", choices=("metaworld",))
    joints = top.section("joints", {})
    config = SimConfig(
        cameras={key: _camera(section) for key, section in _by_key(top, "cameras")},
        joints={name: joints.scalar(name, str) for name in joints.content},
        lidars={key: _lidar(section) for key, section in _by_key(top, "lidars")},
        settle_s=top.scalar("settle_s", float, 0.5, minimum=0.0),
        gripper_slowdown=top.scalar("gripper_slowdown", float, 1.0, minimum=1.0),
        end_effector_frame=top.scalar("end_effector_frame", str, "end_effector_link"),
        source=source,
    )
    top.finish()
    return config


def _by_key(top: Section, name: str) -> list[tuple[str, Section]]:
    holder = top.section(name, {})
    return [(key, holder.section(key)) for key in holder.content]


def _vector(at: Section, name: str) -> Vector3:
    x, y, z = at.items(name, float, length=3)
    return (x, y, z)


def _camera(at: Section) -> CameraConfig:
    fovy_deg = at.optional("fovy_deg", float, minimum=0.0, exclusive=True)
    if fovy_deg is not None and fovy_deg >= 180.0:
        raise at.fail("fovy_deg", f"must be below 180, got {fovy_deg:g}")
    spec = CameraConfig(
        camera=at.scalar("camera", str),
        height=at.scalar("height", int, minimum=1),
        width=at.scalar("width", int, minimum=1),
        fovy_deg=fovy_deg,
        target=_vector(at, "target") if "target" in at else None,
    )
    at.raw("target", None)
    at.finish()
    return spec


def _lidar(at: Section) -> LidarConfig:
    spec = LidarConfig(
        position=_vector(at, "position"),
        elevations_deg=at.items("elevations_deg", float),
        azimuths=at.scalar("azimuths", int, minimum=1),
        yaw_deg=at.scalar("yaw_deg", float, 0.0),
        horizontal_fov_deg=at.scalar("horizontal_fov_deg", float, 360.0, minimum=0.0, exclusive=True),
        min_range_m=at.scalar("min_range_m", float, 0.05, minimum=0.0),
        max_range_m=at.scalar("max_range_m", float, 10.0, minimum=0.0, exclusive=True),
    )
    at.finish()
    if spec.max_range_m <= spec.min_range_m:
        raise at.fail("max_range_m", f"{spec.max_range_m:g} is not above min_range_m {spec.min_range_m:g}")
    if not spec.elevations_deg:
        raise at.fail("elevations_deg", "must name at least one ring")
    return spec
