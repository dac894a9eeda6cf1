"""Simulated robots: the `Robot` protocol, the loop that keeps their time, the simulators behind it. No ROS here.

`vla_ros.nodes.sim.sim_robot_node` puts any of them behind the topics of a contract; `vla_ros rollout --in-process` runs
them without. Import the modules that are needed: `robot`, `config` and `commands` work without MuJoCo.
"""

from vla_ros.sim.commands import CommandRefusedError, SimCommand
from vla_ros.sim.egl import select_backend
from vla_ros.sim.message_maker import RosbagsMaker
from vla_ros.sim.parts import (
    FrameTransform,
    HasCameraInfo,
    HasFrames,
    HasNoiseScale,
    MayFail,
    ReadsCommands,
    RendersSnapshots,
)
from vla_ros.sim.robot import Robot, SimRequest, make_robot

__all__ = [
    "CommandRefusedError",
    "FrameTransform",
    "HasCameraInfo",
    "HasFrames",
    "HasNoiseScale",
    "MayFail",
    "ReadsCommands",
    "RendersSnapshots",
    "Robot",
    "RosbagsMaker",
    "SimCommand",
    "SimRequest",
    "make_robot",
]

select_backend()  # before any module here imports mujoco, which reads the choice then
