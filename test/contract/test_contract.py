"""What a contract means: features, hash, defaults. The shipped contracts are among the samples."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.contract import QosSpec, RobotContract, load_contract, parse_contract
from vla_ros.data_types import ContractError

ROOT = Path(__file__).resolve().parents[2]
SAWYER = ROOT / "config" / "robots" / "metaworld_sawyer.yaml"
SHIPPED = sorted((ROOT / "config" / "robots").glob("*.yaml"))


def sawyer_content() -> Any:
    return yaml.safe_load(SAWYER.read_text(encoding="utf-8"))


@pytest.fixture
def content() -> Any:
    return sawyer_content()


@pytest.fixture(scope="module")
def sawyer() -> RobotContract:
    return load_contract(SAWYER)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_contract_parses_and_is_named_after_its_file(path: Path) -> None:
    assert path.stem.startswith(load_contract(path).robot_type)  # a robot may have contracts of several actions


def test_features_follow_the_contract_and_the_action_is_last(sawyer: RobotContract) -> None:
    assert {key: (feature.kind, feature.shape, feature.dtype) for key, feature in sawyer.features.items()} == {
        "observation.images.front": ("image", (84, 84, 3), "uint8"),
        "observation.images.wrist": ("image", (84, 84, 3), "uint8"),
        "observation.state": ("vector", (4,), "float32"),
        "observation.joint_positions": ("vector", (7,), "float32"),
        "observation.imu.wrist": ("window", (4, 6), "float32"),
        "observation.points.lidar": ("points", (360, 3), "float32"),
        "action": ("action", (4,), "float32"),
    }
    assert list(sawyer.features)[-1] == "action"


def test_streams_of_one_key_are_joined_in_the_order_of_the_contract(sawyer: RobotContract) -> None:
    assert sawyer.feature("observation.state").names == (
        "end_effector_x",
        "end_effector_y",
        "end_effector_z",
        "gripper_opening",
    )


def test_an_unknown_feature_names_the_nearest(sawyer: RobotContract) -> None:
    with pytest.raises(
        ContractError, match=r"no input or action has the key 'observation\.stat'.*'observation\.state'"
    ):
        sawyer.feature("observation.stat")


def test_sensors_are_best_effort_and_commands_reliable_with_no_backlog(sawyer: RobotContract) -> None:
    assert {spec.qos for spec in sawyer.inputs} == {QosSpec("best_effort", "volatile", 5)}
    assert {sink.qos for sink in sawyer.action.sinks} == {QosSpec("reliable", "volatile", 1)}


def test_the_gripper_is_the_last_number_and_a_displacement_without_rotation_has_none(sawyer: RobotContract) -> None:
    assert sawyer.action.gripper_index == 3
    assert sawyer.action.rotation_slice == slice(3, 3)


def test_what_is_left_out_has_the_documented_default(content: Any) -> None:
    for field in ("control_rate_hz", "base_frame", "max_wait_s", "instruction"):
        content.pop(field)
    content["action"].pop("past_end")
    contract = parse_contract(content, "robot.yaml")
    assert (contract.control_rate_hz, contract.base_frame, contract.max_wait_s) == (20, "base_link", 0.05)
    assert (contract.instruction.topic, contract.instruction.default) == ("/instruction", "")
    assert (contract.action.past_end, contract.action.max_hold_s, contract.action.rotation) == ("zero", 0.1, "none")


def test_the_file_name_is_no_part_of_a_contract(content: Any) -> None:
    assert parse_contract(content, "a.yaml") == parse_contract(content, "b.yaml")


def test_a_contract_cannot_be_changed_after_it_was_checked(sawyer: RobotContract) -> None:
    with pytest.raises(AttributeError):
        sawyer.fps = 5  # type: ignore[misc]


def test_a_goal_is_a_picture_of_its_camera_for_policies_and_in_no_dataset(sawyer: RobotContract) -> None:
    stream = sawyer.goal
    assert stream is not None
    assert (stream.key, stream.topic, stream.shape) == ("goal.image", "/goal_image", (84, 84, 3))
    assert stream.qos == QosSpec("reliable", "transient_local", 1)
    assert sawyer.feature("goal.image").shape == sawyer.feature(stream.camera).shape
    assert "goal.image" not in sawyer.features
    assert [*sawyer.policy_features] == [*sawyer.features, "goal.image"]


def test_a_robot_without_a_goal_has_no_picture_of_one(content: Any) -> None:
    contract = parse_contract({name: value for name, value in content.items() if name != "goal"}, "robot.yaml")
    assert contract.goal is None
    with pytest.raises(ContractError, match=r"no input or action has the key 'goal\.image'"):
        contract.feature("goal.image")
