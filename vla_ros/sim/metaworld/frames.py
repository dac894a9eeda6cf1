"""Where hand, cameras, scanner and IMU of the simulated arm are, for ``/tf`` and ``/tf_static``."""

import numpy as np

from vla_ros.contract import RobotContract
from vla_ros.sim.metaworld.arm import MetaWorldRobot, quaternion_of
from vla_ros.sim.metaworld.config import SimConfig
from vla_ros.sim.metaworld.sensors import frame_of, yaw_quaternion
from vla_ros.sim.parts import FrameTransform

_OPTICAL = np.diag(
    (1.0, -1.0, -1.0)
)  # MuJoCo's cameras look along −z with y up, ROS's optical frames along z with y down
_SAME = np.array([0.0, 0.0, 0.0, 1.0])


def frames_of(contract: RobotContract, config: SimConfig, robot: MetaWorldRobot) -> list[FrameTransform]:
    """Return the hand, and what is mounted on the base or, where it moves with it, on the hand."""
    data = robot.snapshot()
    hand, base = config.end_effector_frame, contract.base_frame
    body = data.body("hand")
    hand_rotation = body.xmat.reshape(3, 3)
    transforms = {hand: FrameTransform(base, hand, robot.position, robot.orientation)}
    for spec in contract.inputs:
        child = frame_of(spec, contract, config)
        if spec.key in config.cameras:
            camera = data.camera(config.cameras[spec.key].camera)
            position, rotation = np.array(camera.xpos), camera.xmat.reshape(3, 3) @ _OPTICAL
            moves = robot.model.cam_bodyid[robot.model.camera(config.cameras[spec.key].camera).id] != 0
            if moves:
                position, rotation = hand_rotation.T @ (position - body.xpos), hand_rotation.T @ rotation
            parent = hand if moves else base
            transforms[child] = FrameTransform(parent, child, position, quaternion_of(rotation), is_static=True)
        elif spec.key in config.lidars:
            lidar = config.lidars[spec.key]
            turn = yaw_quaternion(float(np.radians(lidar.yaw_deg)))
            transforms[child] = FrameTransform(base, child, np.asarray(lidar.position), turn, is_static=True)
        elif spec.type.endswith("/Imu") and child != hand:
            transforms[child] = FrameTransform(hand, child, np.zeros(3), _SAME, is_static=True)
    return list(transforms.values())
