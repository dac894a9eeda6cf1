"""Goal pictures: the camera's last frame in training, a picture of the same camera on the robot, or a refusal."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from vla_ros.checkpoint import load_checkpoint, read_inputs
from vla_ros.contract import load_contract
from vla_ros.data_types import CheckpointError, ConfigError, Frame, ObservationError, tick_ns
from vla_ros.runtime import PolicyRunner, TorchPredictor
from vla_ros.training import load_recipe, train

FRONT, STATE, GOAL = "observation.images.front", "observation.state", "goal.image"
GRP = {
    "name": "grp",
    "overrides": {"width": 16, "depth": 1, "n_heads": 2, "n_obs_steps": 1, "action_horizon": 3, "text": {"length": 32}},
}


@pytest.fixture
def recipe(make_recipe):
    return load_recipe(make_recipe(inputs=[FRONT, STATE, GOAL], policy=GRP, epochs=1, augmentation=None))


def frame(index: int, *, goal: int | None = None) -> Frame:
    values = {FRONT: np.full((16, 16, 3), index, np.uint8), STATE: np.zeros(4, np.float32)}
    if goal is not None:
        values[GOAL] = np.full((16, 16, 3), goal, np.uint8)
    return Frame(tick_ns(index, 20), values, "push")


def prediction(runner: PolicyRunner, goal: int | None) -> np.ndarray:
    runner.reset()
    runner.observe(frame(1, goal=goal))
    return runner.predict().actions_HA


def test_a_trained_policy_sees_its_goal_and_does_without_where_words_took_its_place(recipe, recorded):
    checkpoint = load_checkpoint(train(recipe, recorded()))
    assert read_inputs(checkpoint.path) == (FRONT, STATE, GOAL)
    runner = PolicyRunner(TorchPredictor(checkpoint, seed=0), 20)
    assert runner.predictor.spec.optional_keys == (GOAL,)
    dark, bright, none = (prediction(runner, goal) for goal in (0, 255, None))
    assert not np.array_equal(dark, bright)
    assert not np.array_equal(dark, none)


def test_a_policy_that_needs_its_goal_is_not_run_without(make_recipe, recorded):
    policy = {**GRP, "overrides": {**GRP["overrides"], "text": None}}
    path = make_recipe(inputs=[FRONT, STATE, GOAL], policy=policy, epochs=1)
    runner = PolicyRunner(TorchPredictor(load_checkpoint(train(load_recipe(path), recorded())), seed=0), 20)
    assert runner.predictor.spec.optional_keys == ()
    with pytest.raises(ObservationError, match=r"lacks goal\.image"):
        runner.observe(frame(1))


def test_a_goal_of_another_camera_is_refused_although_its_shape_fits(recipe, recorded):
    checkpoint = load_checkpoint(train(recipe, recorded()))
    robot = checkpoint.contract
    checkpoint.check_robot(robot)
    elsewhere = replace(robot.goal, camera="observation.images.wrist")
    other = replace(robot, goals=(robot.instruction, elsewhere))
    with pytest.raises(
        CheckpointError, match=r"a picture of 'observation\.images\.front', the robot's is of '.*wrist'"
    ):
        checkpoint.check_robot(other)
    checkpoint.check_robot(replace(robot, goals=(robot.instruction,)))  # words alone will do


def test_a_dataset_recorded_before_the_robot_had_a_goal_is_trained_under_a_contract_that_has(
    make_recipe, recorded, write_tiny_dataset, tmp_path
):
    root = write_tiny_dataset(tmp_path / "older")
    path = root / "meta/contract.yaml"
    content = yaml.safe_load(path.read_text())
    newer = tmp_path / "newer.yaml"
    newer.write_text(yaml.safe_dump(content))
    del content["goal"]
    path.write_text(yaml.safe_dump(content))

    def trained(**dataset: str) -> Path:
        data = {"root": str(root), "validation_fraction": 0.2, **dataset}
        recipe = load_recipe(make_recipe(dataset=data, inputs=[FRONT, GOAL], policy=GRP, epochs=1))
        return train(recipe, recorded(), overwrite=True)

    with pytest.raises(
        ConfigError, match=r"'goal\.image' is not an observation .*contract\.yaml has no 'goal': add one"
    ):
        trained()
    checkpoint = load_checkpoint(trained(contract=str(newer)))
    assert checkpoint.contract.goal == load_contract(newer).goal
    content["fps"] = 10
    newer.write_text(yaml.safe_dump(content))
    with pytest.raises(
        ConfigError, match=r"newer\.yaml gives numbers another meaning than those of .*: fps was 20, now 10"
    ):
        trained(contract=str(newer))
