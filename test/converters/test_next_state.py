"""The waypoint of a demonstration is the state at the next tick, however the state's stamps lie."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_ros.bags import BagWriter
from vla_ros.contract import load_contract
from vla_ros.converters import convert_bags
from vla_ros.datasets import EpisodeDataset
from vla_ros.messages.message_types import serialize
from vla_ros.sim.message_maker import RosbagsMaker, header

PERIOD_NS = 100_000_000
START_NS = 5_000_000_000
SPEED = 0.5  # m/s
CONTRACT = {
    "robot_type": "base",
    "fps": 10,
    "inputs": [
        {
            "key": "observation.odometry",
            "topic": "/odom",
            "type": "nav_msgs/msg/Odometry",
            "frame": "odom",
            "fields": [f"pose.pose.{name}" for name in ("position.x", "position.y", "orientation.z", "orientation.w")],
            "names": ["x", "y", "qz", "qw"],
            "max_age_s": 0.15,
        }
    ],
    "action": {
        "representation": "trajectory",
        "names": ["x", "y", "yaw"],
        "units": ["m", "m", "rad"],
        "frame": "odom",
        "record": {"topic": "/odom", "type": "nav_msgs/msg/Odometry", "next_state": True, "max_age_s": 0.15},
        "sinks": [{"topic": "/cmd_vel", "type": "geometry_msgs/msg/TwistStamped"}],
        "limits": {"max_speed": 1.0, "max_angular_speed": 1.0},
    },
    "instruction": {"topic": "/instruction", "default": "drive"},
}


def odometry(stamp_ns: int) -> bytes:
    make = RosbagsMaker()
    x = SPEED * (stamp_ns - START_NS) / 1e9
    zero = make.new("geometry_msgs/msg/Vector3", x=0.0, y=0.0, z=0.0)
    pose = make.new(
        "geometry_msgs/msg/Pose",
        position=make.new("geometry_msgs/msg/Point", x=x, y=0.0, z=0.0),
        orientation=make.new("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
    )
    twist = make.new("geometry_msgs/msg/Twist", linear=zero, angular=zero)
    message = make.new(
        "nav_msgs/msg/Odometry",
        header=header(make, stamp_ns, "odom"),
        child_frame_id="base_link",
        pose=make.new("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=np.zeros(36)),
        twist=make.new("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=np.zeros(36)),
    )
    return serialize(message, "nav_msgs/msg/Odometry")


@pytest.mark.parametrize(("rate_hz", "phase_ns"), [(10, 0), (10, 30_000_000), (50, 7_000_000)])
def test_the_action_of_a_tick_is_the_observed_state_of_the_next(tmp_path: Path, rate_hz: int, phase_ns: int) -> None:
    (tmp_path / "contract.yaml").write_text(yaml.safe_dump(CONTRACT), encoding="utf-8")
    contract = load_contract(tmp_path / "contract.yaml")
    bag = tmp_path / "bag"
    with BagWriter(bag) as writer:
        for index in range(2 * rate_hz):
            stamp_ns = START_NS + phase_ns + index * 1_000_000_000 // rate_hz
            writer.write("/odom", "nav_msgs/msg/Odometry", odometry(stamp_ns), stamp_ns + 3_000_000)
    (bag / "contract.yaml").write_text(yaml.safe_dump(CONTRACT), encoding="utf-8")
    (bag / "episode.json").write_text(json.dumps({"instruction": "drive", "success": True}), encoding="utf-8")
    convert_bags([bag], contract, tmp_path / "data", progress=False)
    values = EpisodeDataset(tmp_path / "data").episode(0).values
    action, state = values["action"], values["observation.odometry"]
    assert len(action) >= 17
    np.testing.assert_array_equal(action[:-1, :2], state[1:, :2])
    assert (np.diff(np.append(state[:, 0], action[-1, 0])) > 0.04).all(), "the last waypoint lies ahead too"
