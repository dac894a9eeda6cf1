"""What the simulated base is and what stands behind each input of its contract, of its file under ``config/sim``.

No MuJoCo, no ROS: a configuration can be checked on a machine that has neither.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from vla_ros.data_types import ConfigError
from vla_ros.schema import About, Section, given, load_yaml, read_dataclass

Vector3 = tuple[float, float, float]
_YAW = About("Turn about the base's z axis; 0 looks ahead, positive to the left.", "degrees")
_PLACE = About("In the base frame: x ahead, y to the left, z up from the ground.", "m")
_FRAME = About("frame_id of its messages where the contract names none.")


@dataclass(frozen=True)
class BaseCamera:
    """A pinhole camera on the base, its axis in the middle of the picture."""

    position: Annotated[Vector3, _PLACE]
    height: Annotated[int, About("Of the published image.", "pixels", at_least=1)]
    width: Annotated[int, About("Of the published image.", "pixels", at_least=1)]
    yaw_deg: Annotated[float, _YAW] = 0.0
    pitch_deg: Annotated[float, About("How far it looks down.", "degrees", above=-90, below=90)] = 0.0
    fovy_deg: Annotated[float, About("Vertical field of view.", "degrees", above=0, below=180)] = 75.0
    frame: Annotated[str, _FRAME] = "camera_optical_frame"


@dataclass(frozen=True)
class Scanner:
    """A LiDAR of one or several rings."""

    position: Annotated[Vector3, _PLACE]
    azimuths: Annotated[int, About("Rays in a ring.", at_least=2)]
    elevations_deg: Annotated[tuple[float, ...], About("One ring each, positive upwards.", "degrees")] = (0.0,)
    yaw_deg: Annotated[float, _YAW] = 0.0
    horizontal_fov_deg: Annotated[
        float, About("Angle between the first and the last ray of a ring.", "degrees", above=0, at_most=360)
    ] = 360.0
    min_range_m: Annotated[float, About("Nearer echoes are lost.", "m", at_least=0)] = 0.05
    max_range_m: Annotated[float, About("Farther echoes are lost.", "m", above=0)] = 12.0
    noise_m: Annotated[float, About("Standard deviation of a range.", "m", at_least=0)] = 0.02
    dropout: Annotated[float, About("Share of the rays whose echo is lost.", at_least=0, below=1)] = 0.01
    frame: Annotated[str, _FRAME] = "lidar_link"


@dataclass(frozen=True)
class Radar:
    """A radar: targets with range, bearing and radial velocity, and the map of ranges and velocities they add up to."""

    position: Annotated[Vector3, _PLACE]
    yaw_deg: Annotated[float, _YAW] = 0.0
    horizontal_fov_deg: Annotated[float, About("Field of view.", "degrees", above=0, below=360)] = 120.0
    rays: Annotated[int, About("Directions that are looked into.", at_least=2)] = 61
    max_range_m: Annotated[float, About("Farther targets are lost.", "m", above=0)] = 10.0
    max_speed_mps: Annotated[float, About("Largest radial speed of the map, either way.", "m/s", above=0)] = 2.5
    range_bins: Annotated[int, About("Rows of the map; the first is the nearest.", at_least=2)] = 32
    doppler_bins: Annotated[int, About("Columns of the map; the first comes nearer fastest.", at_least=2)] = 32
    range_noise_m: Annotated[float, About("Standard deviation.", "m", at_least=0)] = 0.05
    speed_noise_mps: Annotated[float, About("Standard deviation.", "m/s", at_least=0)] = 0.05
    rcs_noise_db: Annotated[float, About("Standard deviation of a target's cross-section.", "dB", at_least=0)] = 2.0
    frame: Annotated[str, _FRAME] = "radar_link"


@dataclass(frozen=True)
class Inertial:
    """The IMU in the middle of the base."""

    position: Annotated[Vector3, _PLACE] = (0.0, 0.0, 0.1)
    acceleration_noise: Annotated[float, About("Standard deviation.", "m/s²", at_least=0)] = 0.05
    rate_noise: Annotated[float, About("Standard deviation.", "rad/s", at_least=0)] = 0.005
    frame: Annotated[str, _FRAME] = "imu_link"


@dataclass(frozen=True)
class Odometer:
    """What the wheels' encoders say, integrated."""

    scale_error: Annotated[
        float, About("Standard deviation of an episode's error of distance and turn, as a share.", at_least=0)
    ] = 0.02
    speed_noise: Annotated[float, About("Standard deviation of a speed.", "m/s", at_least=0)] = 0.01
    turn_noise: Annotated[float, About("Standard deviation of a rate of turn.", "rad/s", at_least=0)] = 0.02
    frame: Annotated[str, About("frame_id in which the pose is.")] = "odom"


@dataclass(frozen=True)
class Drive:
    """The differential drive."""

    mass: Annotated[float, About("Of the base without its wheels.", "kg", above=0)] = 12.0
    wheel_radius: Annotated[float, About("Of both wheels.", "m", above=0)] = 0.08
    track: Annotated[float, About("Between the wheels.", "m", above=0)] = 0.36
    max_torque: Annotated[float, About("Of a wheel's motor.", "Nm", above=0)] = 8.0
    max_speed: Annotated[float, About("Ahead; backwards half of it.", "m/s", above=0)] = 1.2
    max_turn: Annotated[float, About("Rate of turn.", "rad/s", above=0)] = 1.8
    max_acceleration: Annotated[float, About("By which the wheels follow a command.", "m/s²", above=0)] = 1.5
    max_turn_acceleration: Annotated[float, About("By which they turn.", "rad/s²", above=0)] = 6.0


@dataclass(frozen=True)
class MobileBaseConfig:
    """A simulated base and the sources of its sensors."""

    cameras: Annotated[dict[str, BaseCamera], About("Feature key → camera.")] = field(default_factory=dict)
    scanners: Annotated[dict[str, Scanner], About("Feature key → LiDAR, of a LaserScan or a PointCloud2.")] = field(
        default_factory=dict
    )
    radars: Annotated[
        dict[str, Radar], About("Feature key → radar, as points (PointCloud2) or as a map (Image, 32FC1).")
    ] = field(default_factory=dict)
    imu: Annotated[Inertial, About("The IMU.", default="see there")] = field(default_factory=Inertial)
    odometry: Annotated[Odometer, About("The odometry.", default="see there")] = field(default_factory=Odometer)
    drive: Annotated[Drive, About("Body and motors.", default="see there")] = field(default_factory=Drive)
    simulator: Annotated[Literal["mobile_base"], About("The simulator that this is a file of.")] = "mobile_base"
    source: Annotated[str, About("File it was read from, for messages.", in_file=False)] = "simulation"


def load_base_config(path: str | Path) -> MobileBaseConfig:
    """Read a file.

    Raises:
        ConfigError: The file is missing or malformed; names the place, the value and what was expected.
    """
    return parse_base_config(load_yaml(Path(path), ConfigError), str(path))


def parse_base_config(content: Any, source: str = "simulation") -> MobileBaseConfig:
    """Build a `MobileBaseConfig` from parsed YAML.

    Raises:
        ConfigError: As `load_base_config`.
    """
    top = Section(source, "", content, ConfigError)
    config = read_dataclass(top, MobileBaseConfig, {"source": given(source)})
    for key, scanner in config.scanners.items():
        if scanner.max_range_m <= scanner.min_range_m:
            reason = f"{scanner.max_range_m:g} is not above min_range_m {scanner.min_range_m:g}"
            raise top.fail(f"scanners.{key}.max_range_m", reason)
        if not scanner.elevations_deg:
            raise top.fail(f"scanners.{key}.elevations_deg", "must name at least one ring")
    return config
