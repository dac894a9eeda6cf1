"""Options that mean nothing beside the others are refused by a sentence; at its default no option ever is."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.contract import FeatureSpec, load_contract
from vla_ros.data_types import ConfigError
from vla_ros.policies import policy_config, policy_names
from vla_ros.processors import TextSpec
from vla_ros.schema import fields_of, to_plain
from vla_ros.training import load_recipe
from vla_ros.training.recipe import ScheduleOptions

ROOT = Path(__file__).resolve().parents[2]
FRONT, STATE, GOAL = "observation.images.front", "observation.state", "goal.image"
MOTION = ("dx", "dy", "dz")


def image(key: str) -> FeatureSpec:
    return FeatureSpec(key, "image", (32, 32, 3), "uint8", ("height", "width", "channels"))


INPUTS = {FRONT: image(FRONT), STATE: FeatureSpec(STATE, "vector", (3,), "float32", ("x", "y", "z"))}
WITH_GOAL = {"inputs": {**INPUTS, GOAL: image(GOAL)}}
ACTION = FeatureSpec("action", "action", (4,), "float32", (*MOTION, "gripper"))
BINS = {"objective": "cross_entropy"}
KEYPOINTS = {"vision": {"kind": "keypoints"}}
AR_ONLY = {"flow_weight": 0.0, "decode": "autoregressive"}


def config(name: str, **options: Any) -> Any:
    return policy_config(name, {"inputs": INPUTS, "action": ACTION, **options})


# policy, mode in which the option means nothing, the option, mode in which it means something
CASES: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any] | None]] = [
    ("act_walkthrough", {}, {"latent_dim": 8}, {"cvae": True}),
    ("act_walkthrough", {}, {"kl_weight": 1.0}, {"cvae": True}),
    ("act", {}, {"pooling": "spatial_softmax"}, {"image_tokens": "frames"}),
    ("act", {}, {"flow_samples": 2}, {"objective": "flow_matching"}),
    ("act", {"objective": "flow_matching"}, {"tanh": True}, {}),
    ("act", BINS, {"tanh": True}, {}),
    ("act", {}, {"bins": 16}, BINS),
    ("act", {}, {"magnitude_names": [*MOTION]}, {"magnitude_weighting": True}),
    ("act_walkthrough", {"magnitude_weighting": False}, {"magnitude_names": [*MOTION]}, {}),
    ("act_walkthrough", {}, {"magnitude_max": 1.0}, {"coordinates": "spherical", "magnitude_names": [*MOTION]}),
    ("bc", {}, {"bins": 16}, BINS),
    ("bc", BINS, {"tanh": False}, {}),
    ("bc", {}, {"magnitude_scaling": "sigmoid_tanh"}, {"coordinates": "spherical", "magnitude_names": [*MOTION]}),
    ("bc", {"magnitude_weighting": False}, {"magnitude_names": [*MOTION]}, {}),
    (
        "bc",
        {"coordinates": "spherical", "magnitude_names": [*MOTION], "magnitude_scaling": "sigmoid_tanh"},
        {"magnitude_max": 1.0},
        {"coordinates": "spherical", "magnitude_names": [*MOTION]},
    ),
    ("bc", {"hidden_dims": []}, {"dropout": 0.2}, {}),
    ("grp", {"stem": "keypoints"}, {"patch_size": 4}, {}),
    ("grp", {}, {"stem_tokens": 2}, {"stem": "keypoints"}),
    ("grp", {}, {"goal_dropout": 0.2}, WITH_GOAL),
    ("grp", {**WITH_GOAL, "text": None}, {"goal_dropout": 0.2}, WITH_GOAL),
    ("grp", {}, {"goal_camera": FRONT}, WITH_GOAL),
    ("grp", {}, {"bins": 16}, BINS),
    ("grp", BINS, {"tanh": True}, {}),
    ("rt1", {"tokens_per_image": 0}, {"learner_dim": 8}, {}),
    ("rt1", {"tokens_per_image": 0}, {"learner_weights": "softmax"}, {}),
    ("pi0", {}, {"diffusion_train_steps": 50}, {"objective": "diffusion"}),
    ("pi0", {}, {"diffusion_clip": 2.0}, {"objective": "diffusion"}),
    ("pi0", {}, {"goal_camera": FRONT}, WITH_GOAL),
    ("flow_ar", {"autoregressive_weight": 0.0}, {"bin_low": -2.0}, {}),
    ("flow_ar", {"autoregressive_weight": 0.0}, {"bin_high": 2.0}, {}),
    ("flow_ar", {}, {"temperature": 1.0}, {"decode": "autoregressive"}),
    ("flow_ar", {"decode": "autoregressive"}, {"flow_steps": 4}, {}),
    ("flow_ar", AR_ONLY, {"flow_samples": 4}, {}),
    ("flow_ar", AR_ONLY, {"objective": "diffusion"}, {}),
]


@pytest.mark.parametrize(("name", "mode", "option", "meaningful"), CASES)
def test_an_option_is_refused_where_it_means_nothing_and_taken_where_it_does(
    name: str, mode: dict[str, Any], option: dict[str, Any], meaningful: dict[str, Any] | None
) -> None:
    (key,) = option
    with pytest.raises(ConfigError, match=rf"^policy {name}: {key}=.* means something only .*; remove it\.$"):
        config(name, **mode, **option)
    assert config(name, **mode)
    if meaningful is not None:
        assert config(name, **meaningful, **option)


@pytest.mark.parametrize(
    ("kind", "option"),
    [
        ("vit", {"backbone": "resnet18"}),
        ("vit", {"n_tokens": 4}),
        ("keypoints", {"patch_size": 16}),
        ("keypoints", {"width": 64}),
        ("keypoints", {"depth": 2}),
        ("keypoints", {"n_heads": 2}),
        ("keypoints", {"mlp_dim": 64}),
    ],
)
def test_options_of_the_other_way_to_see_are_refused(kind: str, option: dict[str, Any]) -> None:
    (key,) = option
    with pytest.raises(ConfigError, match=rf"^policy pi0: vision {key}=.* means something only with kind"):
        config("pi0", vision={"kind": kind, **option})
    other = "vit" if kind == "keypoints" else "keypoints"
    assert config("pi0", vision={"kind": other, **option}).vision


@pytest.mark.parametrize(
    ("spec", "option"),
    [
        ({"kind": "characters"}, {"source": "t5"}),
        ({"kind": "characters"}, {"vocabulary_size": 9}),
        ({"kind": "characters"}, {"width": 9}),
        ({"kind": "tokenizer", "source": "t5", "vocabulary_size": 9}, {"width": 9}),
        ({"kind": "tokenizer", "source": "t5", "vocabulary_size": 9}, {"characters": "ab"}),
        ({"kind": "encoder", "source": "t5", "width": 9}, {"vocabulary_size": 9}),
        ({"kind": "sentence_embedding"}, {"length": 9}),
        ({"kind": "sentence_embedding"}, {"characters": "ab"}),
    ],
)
def test_options_of_another_kind_of_text_are_refused(spec: dict[str, Any], option: dict[str, Any]) -> None:
    (key,) = option
    with pytest.raises(ConfigError, match=rf"^{key}=.* means something only "):
        TextSpec(**spec, **option)
    assert TextSpec(**spec)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("constant", {"final_share": 0.1}),
        ("plateau", {"final_share": 0.1}),
        ("cosine", {"factor": 0.1}),
        ("constant", {"patience": 5}),
        ("one_cycle", {"threshold": 0.2}),
    ],
)
def test_options_of_another_schedule_are_refused(name: Any, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="means something only with name"):
        ScheduleOptions(name=name, **option)


@pytest.mark.parametrize("name", policy_names())
def test_a_saved_configuration_which_writes_every_field_is_read_again(name: str) -> None:
    saved = config(name)
    assert config(name, **to_plain(saved)) == saved


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "training").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_recipe_has_an_option_without_a_meaning(path: Path) -> None:
    recipe = load_recipe(path)
    robot = "mobile_base" if path.stem.startswith("mobile_base") else "metaworld_sawyer"
    features = load_contract(ROOT / "config" / "robots" / f"{robot}.yaml").policy_features
    info = {"k": [26.0, 0, 31.5, 0, 26.0, 19.5, 0, 0, 1]}  # as a dataset has it of a camera
    inputs = {key: replace(features[key], camera_info=info) for key in recipe.inputs}
    policy_config(recipe.policy.name, {**recipe.policy.overrides, "inputs": inputs, "action": features["action"]})


@pytest.mark.parametrize("path", sorted((ROOT / "config" / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_no_shipped_options_file_has_an_option_without_a_meaning(path: Path) -> None:
    name = max((name for name in policy_names() if path.stem.startswith(name)), key=len)
    assert config(name, **yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", policy_names())
def test_every_option_says_what_it_is_for(name: str) -> None:
    assert [entry.name for entry in fields_of(type(config(name))) if not entry.about.description] == []
