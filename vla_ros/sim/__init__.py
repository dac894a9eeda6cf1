"""The simulated robot: MetaWorld's physics, sensors and scripted experts. No ROS here.

`vla_ros.nodes.sim.sim_robot_node` puts it behind the topics of a contract. Import the modules that are needed:
`config` and `commands` work without MuJoCo, the rest need the simulator.
"""

from vla_ros.sim.egl import select_backend

select_backend()  # before any module here imports mujoco, which reads the choice then
