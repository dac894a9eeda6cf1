"""A hand that learnt a motion at one place makes it at another: relative actions behind the runtime, in one process."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy.spatial.transform import Rotation

from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import NANOSECONDS
from vla_ros.datasets import DatasetWriter
from vla_ros.rollouts.in_process import make_driver, run_in_process
from vla_ros.sim import RosbagsMaker
from vla_ros.sim.message_maker import header
from vla_ros.sim.robot import Robot
from vla_ros.training import load_recipe, train

ARM = Path(__file__).parents[1] / "robots/test_arm.yaml"
TOOL = "observation.tool"
NAMES = ["x", "y", "z", "qx", "qy", "qz", "qw"]
FIELDS = ["pose.position.x", "pose.position.y", "pose.position.z"]
FIELDS += [f"pose.orientation.{axis}" for axis in "xyzw"]
STEP = (Rotation.from_rotvec([0.05, 0.1, 0.2]), np.array([0.02, 0.0, 0.01]))
"""What every tick adds, along the hand's own axes."""
PROCESSORS = [
    {
        "name": "relative_actions",
        "options": {
            "key": TOOL,
            "action": {"position": NAMES[:3], "rotation": NAMES[3:]},
            "measured": {"position": FIELDS[:3], "rotation": FIELDS[3:]},
        },
    },
    {"name": "rotation_form", "options": {"rotation": NAMES[3:]}},
]


def after(pose: np.ndarray, steps: int = 1) -> np.ndarray:
    """Return the pose of a hand that made the step so many times."""
    turn, position = Rotation.from_quat(pose[3:]), pose[:3]
    for _ in range(steps):
        turn, position = turn * STEP[0], position + turn.apply(STEP[1])
    return np.concatenate([position, turn.as_quat()])


def start(seed: int, reach: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(-reach, reach, 3), Rotation.random(random_state=seed).as_quat()])


class Hand:
    """A `vla_ros.sim.Robot` that is where it was told to be."""

    task, step_ns, success, reward = "screw", NANOSECONDS // 10, False, 0.0

    def __init__(self) -> None:
        self._make = RosbagsMaker()
        self.reset(0)

    def reset(self, seed: int) -> None:
        self.seed, self.pose = seed, start(seed, 5.0)
        self._target, self.path = self.pose, [self.pose]

    def command(self, action: Any, period_ns: int) -> None:
        self._target = self.pose if action is None else np.asarray(action)

    def step(self) -> None:
        self.pose = self._target
        self.path.append(self.pose)

    def check_input(self, spec: Any) -> None:
        assert spec.key == TOOL

    def message(self, spec: Any, stamp_ns: int) -> Any:
        point = self._make.new("geometry_msgs/msg/Point", **dict(zip("xyz", self.pose[:3], strict=True)))
        turn = self._make.new("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", self.pose[3:], strict=True)))
        pose = self._make.new("geometry_msgs/msg/Pose", position=point, orientation=turn)
        return self._make.new(spec.type, header=header(self._make, stamp_ns, "arm_base"), pose=pose)

    def demonstrator(self, policy: str) -> Any:
        return lambda: after(self.pose)

    def close(self) -> None:
        """Nothing to release."""


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> RobotContract:
    content = yaml.safe_load(ARM.read_text())
    content["inputs"] = [entry for entry in content["inputs"] if entry["key"] == TOOL]
    content["control_rate_hz"] = content["fps"]
    del content["action"]["limits"]
    path = tmp_path_factory.mktemp("contract") / "hand.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_contract(path)


@pytest.fixture(scope="module")
def checkpoint(contract: RobotContract, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("screw")
    features = {key: contract.features[key] for key in (TOOL, "action")}
    with DatasetWriter(folder / "data", features, contract.fps, contract.robot_type) as writer:
        for seed in range(4):
            poses = [after(start(seed, 0.1), steps).astype(np.float32) for steps in range(9)]
            frames = [{TOOL: here, "action": there} for here, there in pairwise(poses)]
            writer.add_episode(frames, "screw")
        text = Path(contract.source).read_text()
        writer.finish({"meta/contract.yaml": text, "meta/contract_hash.txt": contract.hash + "\n"})
    recipe = {
        "output": str(folder / "run"),
        "dataset": {"root": str(folder / "data"), "validation_fraction": 0.25},
        "inputs": [TOOL],
        "policy": {"name": "bc", "overrides": {"hidden_dims": [16], "tanh": False, "magnitude_weighting": False}},
        "processors": PROCESSORS,
        "normalisation": {"action": "mean_std"},
        "steps": 50,
        "batch_size": 8,
        "threads": 1,
        "device": "cpu",
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return train(load_recipe(folder / "recipe.yaml"))


def test_far_from_where_it_learnt_the_hand_makes_the_same_motion(contract: RobotContract, checkpoint: Path) -> None:
    robot = Hand()
    assert isinstance(robot, Robot)
    driver = make_driver("checkpoint", contract, checkpoint=str(checkpoint))
    for trace in run_in_process(robot, contract, driver, episodes=2, first_seed=1000, time_limit_s=1.5):
        moved = [pose for pose in robot.path if not np.array_equal(pose, robot.path[0])]
        assert trace is not None
        assert len(moved) >= 10
        for steps, pose in enumerate(moved, 1):
            expected = after(robot.path[0], steps)
            np.testing.assert_allclose(pose[:3], expected[:3], atol=1e-3)
            assert (Rotation.from_quat(pose[3:]) * Rotation.from_quat(expected[3:]).inv()).magnitude() < 5e-3
