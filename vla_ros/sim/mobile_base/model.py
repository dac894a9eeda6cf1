"""The base as a MuJoCo model: chassis on two driven wheels and two casters, cameras, IMU; a world is put around it.

Groups of geometry: 0 is seen by cameras, LiDARs and radars, 1 by cameras alone (paint, signs), 3 is the base itself,
which its own sensors do not see.
"""

import math
from typing import Any

import mujoco
import numpy as np

from vla_ros.sim.mobile_base.config import BaseCamera, MobileBaseConfig

RADIUS = 0.22
"""Of the base seen from above, m."""
TIMESTEP_S = 0.0025
BASE, IMU = "base", "imu"
_CLEARANCE, _HEIGHT = 0.05, 0.25  # of the chassis: above the ground, and from there to its top, m
_CASTER = 0.06  # radius, m


def build_model(config: MobileBaseConfig, world: str, assets: str = "") -> Any:
    """Compile a world with the base in it.

    Args:
        config: Body and sensors.
        world: MJCF of what is in the world, for its worldbody; `FLOOR` among it.
        assets: MJCF of what that refers to.

    Returns:
        A `mujoco.MjModel`.
    """
    sizes = [(camera.height, camera.width) for camera in config.cameras.values()] or [(1, 1)]
    height, width = np.max(sizes, axis=0)
    return mujoco.MjModel.from_xml_string(f"""
    <mujoco model="mobile_base">
      <option timestep="{TIMESTEP_S}" integrator="implicitfast" cone="elliptic" impratio="10"/>
      <visual>
        <headlight ambient=".5 .5 .5" diffuse=".4 .4 .4"/>
        <quality offsamples="0" shadowsize="0"/>
        <map znear="0.005"/>
        <global offheight="{height}" offwidth="{width}"/>
      </visual>
      <asset>
        <texture name="tiles" type="2d" builtin="checker" rgb1=".35 .35 .35" rgb2=".42 .42 .42" width="64" height="64"/>
        <material name="tiles" texture="tiles" texrepeat="14 14"/>{assets}
      </asset>
      <worldbody>{world}{_base(config)}</worldbody>
      <actuator>{"".join(_motor(config, side) for side in ("left", "right"))}</actuator>
      <sensor>
        <accelerometer name="acceleration" site="{IMU}"/>
        <gyro name="rate" site="{IMU}"/>
      </sensor>
    </mujoco>""")


def floor(size: float) -> str:
    """Return the MJCF of a tiled floor, `size` in m to each side."""
    return f'<geom name="floor" type="plane" size="{size} {size} .1" material="tiles" friction="1 .005 .0001"/>'


def _base(config: MobileBaseConfig) -> str:
    drive, (x, y, z) = config.drive, config.imu.position
    half = _HEIGHT / 2.0
    # Sprung, or a base that stands on both casters lifts its driven wheels off uneven ground.
    casters = "".join(
        f'<body pos="{side * 0.14} 0 {_CASTER}"><joint type="slide" axis="0 0 1" stiffness="3000" damping="60" '
        f'range="-.005 .03" limited="true"/><geom type="sphere" size="{_CASTER}" friction="0 0 0" priority="1" '
        'condim="1" mass=".3" group="3" rgba=".2 .2 .2 1"/></body>'
        for side in (1, -1)
    )
    # The mass lies low, as a battery does; the cylinder alone would put it in its middle.
    inertia = drive.mass * RADIUS**2 / 4.0
    return f"""
    <body name="{BASE}">
      <freejoint/>
      <inertial mass="{drive.mass}" pos="0 0 .1" diaginertia="{inertia} {inertia} {2.0 * inertia}"/>
      <geom name="chassis" type="cylinder" size="{RADIUS} {half}" pos="0 0 {_CLEARANCE + half}" mass="0" friction="0.1"
            group="3" rgba=".15 .3 .6 1"/>
      <geom type="box" size=".02 .06 .01" pos=".17 0 {_CLEARANCE + _HEIGHT}" mass="0" contype="0" conaffinity="0"
            group="3" rgba="1 .8 0 1"/>
      <site name="{IMU}" pos="{x} {y} {z}"/>{casters}
      {_wheel(config, "left", 1)}{_wheel(config, "right", -1)}
      {"".join(_camera(key, camera) for key, camera in config.cameras.items())}
    </body>"""


def _wheel(config: MobileBaseConfig, side: str, sign: int) -> str:
    radius, y = config.drive.wheel_radius, sign * config.drive.track / 2.0
    # An ellipsoid touches the ground in one point: the track is then exactly the distance between the wheels.
    return f"""
      <body name="{side}_wheel" pos="0 {y} {radius}">
        <joint name="{side}" type="hinge" axis="0 1 0" damping=".02" armature=".01"/>
        <geom type="ellipsoid" size="{radius} .015 {radius}" mass=".8" friction="1.2 .005 .0001" group="3"
              rgba=".1 .1 .1 1"/>
      </body>"""


def _motor(config: MobileBaseConfig, side: str) -> str:
    torque = config.drive.max_torque
    return f'<velocity name="{side}" joint="{side}" kv="8" forcerange="{-torque} {torque}"/>'


def _camera(key: str, camera: BaseCamera) -> str:
    x, y, z = camera.position
    yaw, pitch = math.radians(camera.yaw_deg), math.radians(camera.pitch_deg)
    right = (math.sin(yaw), -math.cos(yaw), 0.0)
    up = (math.sin(pitch) * math.cos(yaw), math.sin(pitch) * math.sin(yaw), math.cos(pitch))
    axes = " ".join(f"{value:.9f}" for value in (*right, *up))
    return f'<camera name="{key}" pos="{x} {y} {z}" xyaxes="{axes}" fovy="{camera.fovy_deg}"/>'
