"""What simulated sensors of MuJoCo's models are, as declared fields of a simulator's file. No MuJoCo, no ROS."""

from dataclasses import dataclass
from typing import Annotated

from vla_ros.schema import About

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class CameraConfig:
    """One rendered camera."""

    camera: Annotated[str, About("Name of a camera in the model.")]
    height: Annotated[int, About("Of the published image.", "pixels", at_least=1)]
    width: Annotated[int, About("Of the published image.", "pixels", at_least=1)]
    fovy_deg: Annotated[
        float | None, About("Vertical field of view; the model's own by default.", "degrees", above=0, below=180)
    ] = None
    target: Annotated[
        Vector3 | None,
        About(
            "Point in the base frame at which a camera fixed in the scene is aimed upright; the model's own "
            "orientation by default.",
            "m",
        ),
    ] = None


@dataclass(frozen=True)
class LidarConfig:
    """One scanner of `len(elevations_deg)` rings of `azimuths` rays, fixed in the scene."""

    position: Annotated[Vector3, About("Of the scanner in the base frame.", "m")]
    elevations_deg: Annotated[tuple[float, ...], About("One ring each, positive upwards.", "degrees")]
    azimuths: Annotated[int, About("Rays in a ring.", at_least=1)]
    yaw_deg: Annotated[
        float,
        About("Turn about the base frame's z axis; the scanner's x axis is the middle of its view.", "degrees"),
    ] = 0.0
    horizontal_fov_deg: Annotated[
        float, About("Angle between the first and the last ray of a ring.", "degrees", above=0)
    ] = 360.0
    min_range_m: Annotated[float, About("Nearer echoes are not points.", "m", at_least=0)] = 0.05
    max_range_m: Annotated[float, About("Farther echoes are not points.", "m", above=0)] = 10.0
