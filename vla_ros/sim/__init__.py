"""Simulated robots: the `Robot` protocol, and MetaWorld's arm with its sensors and experts behind it. No ROS here.

`vla_ros.nodes.sim.sim_robot_node` puts MetaWorld's arm behind the topics of a contract; every simulator runs in process
(`vla_ros rollout --in-process --sim NAME`). Import the modules that are needed: `robot`, `config` and `commands` work
without MuJoCo, those of MetaWorld need it.
"""

from vla_ros.sim.egl import select_backend
from vla_ros.sim.message_maker import RosbagsMaker
from vla_ros.sim.robot import Robot, SimRequest, make_robot

__all__ = ["Robot", "RosbagsMaker", "SimRequest", "make_robot"]

select_backend()  # before any module here imports mujoco, which reads the choice then
