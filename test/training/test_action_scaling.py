"""Lengths and directions that a loss takes are physical, or training is refused."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import FeatureSpec, parse_contract
from vla_ros.data_types import ConfigError
from vla_ros.objectives import magnitude_weight, to_spherical
from vla_ros.policies import policy_config
from vla_ros.policies.common.action_scaling import check_relative, with_motion_of, with_scaling_of
from vla_ros.processors import ProcessorOptions, Processors
from vla_ros.training import load_recipe, train

ROBOT = yaml.safe_load((Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml").read_text())
STATE = FeatureSpec("observation.state", "vector", (4,), "float32", tuple("abcd"))
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))
MOTION = ("dx", "dy", "dz")
# as the demonstrations of push-v3 have them: y mostly goes forward
PUSH = {"min": np.array([-0.01, -0.002, -0.01, 0.0]), "max": np.array([0.01, 0.01, 0.01, 0.6])}


def scaled(motion: Any, statistics: dict = PUSH) -> torch.Tensor:
    """Return motions [N, 3] in m as a loss under 'symmetric' sees them."""
    options = ProcessorOptions(action="symmetric", together=MOTION)
    processors = Processors({}, ACTION, options, {"action": statistics})
    chunk = np.zeros((len(motion), 1, 4), np.float32)
    chunk[:, 0, :3] = motion
    batch = processors.batch({"action": chunk, "action_is_pad": np.zeros((len(motion), 1), np.bool_)})
    return batch["action"][:, 0, :3]


def config(name: str = "bc", **options: Any):
    return policy_config(name, {"inputs": {STATE.key: STATE}, "action": ACTION, **options})


def test_standing_still_weighs_exactly_one():
    assert magnitude_weight(scaled(np.zeros((1, 3)))).item() == 1.0


def test_the_weight_grows_with_the_physical_length_whatever_the_direction():
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(500, 3))
    lengths = np.sort(rng.uniform(0.0, 0.017, 500))
    motion = lengths[:, None] * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    weight = magnitude_weight(scaled(motion))[:, 0].double().numpy()
    np.testing.assert_allclose(weight, 1.0 + 2.0 * lengths / 0.01, rtol=1e-5)


@settings(max_examples=30)
@given(st.lists(st.floats(-0.02, 0.02), min_size=6, max_size=6))
def test_spherical_angles_are_those_of_the_motion_whatever_the_ranges_of_its_numbers(ends):
    low, high = np.minimum(ends[:3], ends[3:]), np.maximum(ends[:3], ends[3:])
    motion = torch.tensor([[0.003, -0.004, 0.005], [-0.01, 0.002, 0.0], [0.0, 0.0, -0.006]])
    statistics = {"min": np.array([*low, 0.0]), "max": np.array([*high, 1.0])}
    seen = to_spherical(scaled(motion.numpy(), statistics))
    torch.testing.assert_close(seen[:, 1:], to_spherical(motion)[:, 1:], atol=1e-4, rtol=0)


def test_a_motion_whose_axis_never_varied_keeps_its_direction_and_is_commanded_as_that_constant():
    statistics = {"min": np.array([-0.01, 0.002, 0.0, 0.0]), "max": np.array([0.01, 0.002, 0.0, 1.0])}
    assert scaled(np.array([[0.0, 0.002, 0.0]]), statistics)[0].tolist() == pytest.approx([0.0, 0.2, 0.0])
    options = ProcessorOptions(action="symmetric", together=MOTION)
    built = Processors({}, ACTION, options, {"action": statistics})
    for processors in (built, Processors.from_dict(built.to_dict(), built.tensors())):
        actions = processors.actions(torch.randn(5, 2, 4))
        assert (actions[..., 1] == torch.tensor(0.002)).all()
        assert (actions[..., 2] == 0.0).all()
        assert actions[..., 0].std() > 0


@pytest.mark.parametrize("options", [{}, {"coordinates": "spherical", "magnitude_names": MOTION}])
def test_where_lengths_count_and_nothing_is_said_the_motion_is_scaled_symmetrically(options):
    contract = parse_contract(ROBOT, "robot.yaml")
    chosen = with_motion_of(config(**options), options, contract)
    normalisation = with_scaling_of(ProcessorOptions(), chosen, ACTION)
    assert chosen.motion_names == MOTION
    assert (normalisation.action, normalisation.together) == ("symmetric", MOTION)


def test_where_no_length_counts_min_max_stays():
    chosen = config(magnitude_weighting=False)
    assert chosen.motion_names == ()
    assert with_scaling_of(ProcessorOptions(), chosen, ACTION).mode(ACTION) == "min_max"


@pytest.mark.parametrize("policy", ["bc", "act", "grp"])
@pytest.mark.parametrize("mode", ["min_max", "quantile"])
def test_a_normalisation_that_moves_zero_is_refused_where_lengths_count(policy, mode):
    more = {"tanh": True} if policy == "grp" else {}
    chosen = config(policy, magnitude_weighting=True, magnitude_names=MOTION, **more, **inputs_of(policy))
    sentence = rf"normalisation.action '{mode}' shifts or stretches dx, dy, dz, .*use symmetric, or leave the field out"
    for options in (ProcessorOptions(action=mode), ProcessorOptions(keys={"action": mode})):
        with pytest.raises(ConfigError, match=sentence):
            with_scaling_of(options, chosen, ACTION)


def inputs_of(policy: str) -> dict:
    if policy == "bc":
        return {}
    image = FeatureSpec("observation.images.front", "image", (16, 16, 3), "uint8", ("height", "width", "channels"))
    return (
        {"inputs": {image.key: image, STATE.key: STATE}, "text": {"length": 8}}
        if policy == "grp"
        else {"inputs": {image.key: image, STATE.key: STATE}}
    )


def test_a_motion_that_is_scaled_together_only_in_part_is_refused():
    options = ProcessorOptions(action="symmetric", together=("dx", "dy"))
    with pytest.raises(ConfigError, match="together: dx, dy lacks dz, of which"):
        with_scaling_of(options, config(magnitude_names=MOTION), ACTION)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"action": "min_max", "together": MOTION}, "together=.* means something only with action 'symmetric'"),
        ({"action": "symmetric", "together": ("dx", "dq")}, "'dq' is not a number of the action"),
        ({"action": "symmetric", "together": ("dx", "dx")}, "'dx' stands there twice"),
    ],
)
def test_bad_groups_are_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Processors({}, ACTION, ProcessorOptions(**options), {"action": PUSH})


def test_a_length_over_a_gripper_is_refused():
    options = {"magnitude_names": ("dx", "gripper")}
    with pytest.raises(ConfigError, match="length of dx, gripper, whose units are m, 1"):
        with_motion_of(config(**options), options, parse_contract(ROBOT, "robot.yaml"))


def pose_robot():
    contract = parse_contract(ROBOT, "robot.yaml")
    return replace(contract, action=replace(contract.action, representation="pose"))


def test_lengths_of_an_absolute_action_are_left_out_unless_asked_for():
    assert with_motion_of(config(), {}, pose_robot()).motion_names == ()
    for options in ({"magnitude_weighting": True}, {"coordinates": "spherical", "magnitude_names": MOTION}):
        with pytest.raises(ConfigError, match="action is a pose, whose zero is not standing still"):
            with_motion_of(config(**options), options, pose_robot())


def test_a_trained_checkpoint_weighs_standing_still_with_one(make_recipe):
    policy = {"name": "bc", "overrides": {"hidden_dims": [8], "action_horizon": 2, "dropout": 0.0}}
    loaded = load_checkpoint(train(load_recipe(make_recipe(epochs=1, policy=policy))))
    assert loaded.policy.config.magnitude_names == MOTION
    assert loaded.processors.options.together == MOTION
    raw = {"action": np.zeros((1, 2, 4), np.float32), "action_is_pad": np.zeros((1, 2), np.bool_)}
    statistics = {"action": {name: value.numpy() for name, value in loaded.processors.statistics["action"].items()}}
    processors = Processors({}, loaded.processors.action, loaded.processors.options, statistics)
    assert (magnitude_weight(processors.batch(raw)["action"][..., :3]) == 1.0).all()


def test_a_recipe_that_normalises_by_min_max_under_a_weighted_loss_is_refused(make_recipe):
    with pytest.raises(ConfigError, match="'min_max' shifts or stretches dx, dy, dz"):
        train(load_recipe(make_recipe(normalisation={"action": "min_max"})))


def test_a_pose_that_is_measured_in_another_frame_is_refused():
    contract = pose_robot()
    inputs = [replace(spec, frame="other") if spec.key == STATE.key else spec for spec in contract.inputs]
    step = SimpleNamespace(name="relative_actions", makes_motion=True, reads=(STATE.key,))
    assert check_relative([step], contract)
    with pytest.raises(ConfigError, match=r"needs 'observation.state' in the frame of the action, 'base_link'"):
        check_relative([step], replace(contract, inputs=tuple(inputs)))
    with pytest.raises(ConfigError, match="but the robot's action is a displacement"):
        check_relative([step], parse_contract(ROBOT, "robot.yaml"))
