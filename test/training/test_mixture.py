"""One policy of several robots: padded numbers and missing cameras change nothing, statistics are each robot's own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from vla_ros.checkpoint import load_checkpoint, select_robot
from vla_ros.contract import FeatureSpec, load_contract
from vla_ros.data_types import CheckpointError, ConfigError, Observation
from vla_ros.datasets import DatasetWriter
from vla_ros.policies import build_policy
from vla_ros.processors import ABSENT, ACTION_DIM_IS_PAD, ProcessorOptions, Processors, Slots
from vla_ros.runtime.torch_predictor import TorchPredictor
from vla_ros.training import load_recipe, train
from vla_ros.training.mixture import MixedWindows

ROBOT = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
FRONT, WRIST, STATE = "observation.images.front", "observation.images.wrist", "observation.state"
NARROW_ACTION = {
    "representation": "planar_twist",
    "names": ["vx", "vy", "wz"],
    "units": ["m/s", "m/s", "rad/s"],
    "frame": "base_link",
    "record": {"topic": "/cmd_vel", "type": "geometry_msgs/msg/TwistStamped", "max_age_s": 0.1},
    "sinks": [{"topic": "/cmd_vel", "type": "geometry_msgs/msg/TwistStamped"}],
    "limits": {"lower": [-1.0, -1.0, -1.0], "upper": [1.0, 1.0, 1.0]},
}
PI0 = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 16, "mlp_dim": 16},
    "text": {"kind": "characters", "length": 32},
    "action_horizon": 3,
    "flow_steps": 2,
}


@pytest.fixture(scope="session")
def robots(tmp_path_factory) -> dict[str, Path]:
    """Two datasets: the wide robot has four numbers and two cameras, the narrow one three and one."""
    folder = tmp_path_factory.mktemp("robots")
    return {name: _write(folder / name, name) for name in ("wide", "narrow")}


def _write(root: Path, name: str) -> Path:
    content = yaml.safe_load(ROBOT.read_text())
    content["robot_type"] = name
    cameras = (FRONT, WRIST) if name == "wide" else (FRONT,)
    content["inputs"] = [entry for entry in content["inputs"] if entry["key"] in (*cameras, STATE)]
    for entry in content["inputs"]:
        if entry["key"] in cameras:
            entry["image"] = {"height": 16, "width": 16}
    if name == "narrow":
        content["action"] = NARROW_ACTION
    text = yaml.safe_dump(content)
    path = root.parent / f"{name}.yaml"
    path.write_text(text)
    contract = load_contract(path)
    features = {key: contract.features[key] for key in (*cameras, STATE, "action")}
    rng, scale = np.random.default_rng(len(name)), 1.0 if name == "wide" else 50.0
    with DatasetWriter(root, features, contract.fps, name, image_storage="png") as writer:
        for _ in range(3):
            frames = []
            for _ in range(10):
                frame = {key: rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for key in cameras}
                frame[STATE] = (scale * rng.uniform(-1, 1, features[STATE].shape)).astype(np.float32)
                frame["action"] = (scale * rng.uniform(-1, 1, features["action"].shape)).astype(np.float32)
                frames.append(frame)
            writer.add_episode(frames, "push the puck to the goal")
        writer.finish({"meta/contract.yaml": text, "meta/contract_hash.txt": contract.hash + "\n"})
    return root


@pytest.fixture
def recipe(robots, make_recipe):
    """Return a function that writes a recipe of both robots, with some of its fields replaced."""

    def make(robot: str = "wide", weights: tuple[float, float] = (3.0, 1.0), **changes):
        other = "narrow" if robot == "wide" else "wide"
        without = {"wide": [], "narrow": [WRIST]}
        content = {
            "dataset": {
                "root": str(robots[robot]),
                "weight": weights[0],
                "without": without[robot],
                "validation_fraction": 0.3,
            },
            "mixture": {other: {"root": str(robots[other]), "weight": weights[1], "without": without[other]}},
            "inputs": [FRONT, WRIST, STATE],
            "policy": {"name": "pi0", "overrides": PI0},
            "epochs": 2,
            "keep_best": False,
            "augmentation": {"random_shift": 1},
            **changes,
        }
        return load_recipe(make_recipe(**content))

    return make


# --- windows


class Numbered:
    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def order(self, rng):
        return rng.permutation(self.count)

    def batch(self, indices):
        return {"x": indices}


@pytest.mark.parametrize(("weights", "counts"), [((1, 1), (20, 20)), ((3, 1), (30, 10)), ((1, 2), (13, 27))])
def test_an_epoch_takes_windows_by_weight(weights, counts):
    windows = MixedWindows([Numbered(30), Numbered(10)], weights)
    order = windows.order(np.random.default_rng(0))
    assert ((order < 30).sum(), (order >= 30).sum()) == counts
    assert np.array_equal(order, windows.order(np.random.default_rng(0)))
    assert not np.array_equal(order, windows.order(np.random.default_rng(1)))
    # none twice before all were taken once
    taken = np.bincount(order[order >= 30] - 30, minlength=10)
    assert taken.max() - taken.min() <= 1


def test_a_batch_says_which_rows_are_whose():
    batch = MixedWindows([Numbered(30), Numbered(10)], (1, 1)).batch(np.array([31, 2, 39, 0]))
    assert {part: rows.tolist() for part, rows in batch["rows"].items()} == {0: [1, 3], 1: [0, 2]}
    assert {part: raw["x"].tolist() for part, raw in batch["raw"].items()} == {0: [2, 0], 1: [1, 9]}


# --- what is padded and masked


def feature(key: str, kind: str, shape: tuple[int, ...]) -> FeatureSpec:
    names = ("height", "width", "channels") if kind == "image" else tuple("abcdefg"[: shape[0]])
    return FeatureSpec(key, kind, shape, "uint8" if kind == "image" else "float32", names)


def pi0(action_dim: int, state_dim: int, cameras: tuple[str, ...] = (FRONT, WRIST), **options):
    torch.manual_seed(0)
    inputs = {key: feature(key, "image", (16, 16, 3)) for key in cameras}
    inputs[STATE] = feature(STATE, "vector", (state_dim,))
    return build_policy(
        "pi0", {"inputs": inputs, "action": feature("action", "action", (action_dim,)), **PI0, **options}
    )


def batch_of(policy, action_dim: int, absent: tuple[str, ...] = (), fill: float = 0.0):
    """Return a batch of a robot with `action_dim` numbers; what it lacks is filled with `fill`."""
    generator = torch.Generator().manual_seed(3)
    batch = {}
    for key, spec in policy.config.inputs.items():
        shape = (4, 1, 3, 16, 16) if spec.kind == "image" else (4, 1, *spec.shape)
        batch[key] = torch.randn(shape, generator=generator)
        if spec.kind == "image":
            batch[key + ABSENT] = torch.full((4,), key in absent)
            if key in absent:
                batch[key] = torch.full_like(batch[key], fill)
    width = policy.config.action_dim
    batch["action"] = torch.rand((4, 3, width), generator=generator) * 2 - 1
    padding = torch.arange(width) >= action_dim
    batch["action"] = batch["action"].masked_fill(padding, fill)
    batch[ACTION_DIM_IS_PAD] = padding.expand(4, -1)
    batch["action_is_pad"] = torch.arange(3) >= torch.tensor([[3], [2], [3], [1]])
    batch["task_tokens"] = torch.randint(0, 60, (4, 32), generator=generator)
    batch["task_mask"] = torch.arange(32).expand(4, -1) < 9
    return batch


def loss_and_gradients(policy, batch):
    policy.zero_grad()
    loss = policy.compute_loss(batch, torch.Generator().manual_seed(5)).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    "options", [{}, {"objective": "diffusion"}, {"flow_samples": 3}], ids=["flow", "diffusion", "3"]
)
def test_a_padded_dimension_and_a_missing_camera_change_nothing(options):
    policy = pi0(7, 5, **options)
    loss, gradients = loss_and_gradients(policy, batch_of(policy, 4, (WRIST,)))
    for fill in (3.0, float("nan")):
        other, others = loss_and_gradients(policy, batch_of(policy, 4, (WRIST,), fill))
        assert torch.equal(loss, other)
        assert all(torch.equal(value, others[name]) for name, value in gradients.items())
    # what an action needs of a padded dimension gets no gradient
    weight = next(p.grad for name, p in policy.named_parameters() if p.shape[-2:] == (7, 16) and p.grad is not None)
    assert not weight[4:].any()
    assert weight[:4].any()


def test_predictions_do_not_depend_on_padding_and_are_zero_there():
    policy = pi0(7, 5).eval()
    batches = [batch_of(policy, 4, (WRIST,), fill) for fill in (0.0, float("nan"))]
    first, second = (
        policy.predict_action_chunk(b, generator=torch.Generator().manual_seed(1)).actions for b in batches
    )
    assert torch.equal(first, second)
    assert not first[..., 4:].any()
    assert first[..., :4].all()


SMALL_ACT = {"width": 16, "n_heads": 2, "mlp_dim": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "backbone": "cnn"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bc", {"hidden_dims": [16], "dropout": 0.0}),
        ("bc", {"hidden_dims": [16], "dropout": 0.0, "objective": "cross_entropy", "magnitude_weighting": False}),
        ("bc", {"hidden_dims": [16], "dropout": 0.0, "objective": "flow_matching"}),
        ("act", SMALL_ACT),
        ("act", {**SMALL_ACT, "objective": "diffusion"}),
    ],
    ids=["bc", "bc_bins", "bc_flow", "act", "act_diffusion"],
)
def test_a_padded_number_is_in_no_regression(name, options):
    torch.manual_seed(0)
    inputs = {STATE: feature(STATE, "vector", (3,)), FRONT: feature(FRONT, "image", (32, 32, 3))}
    options = {"action_horizon": 3, **options}
    policy = build_policy(name, {"inputs": inputs, "action": feature("action", "action", (5,)), **options}).eval()
    generator = torch.Generator().manual_seed(3)
    batch = {STATE: torch.randn((4, 1, 3), generator=generator), FRONT: torch.randn((4, 1, 3, 32, 32))}
    batch["action"] = torch.rand((4, 3, 5), generator=generator) * 2 - 1
    batch["action_is_pad"] = torch.zeros(4, 3, dtype=torch.bool)
    batch[ACTION_DIM_IS_PAD] = (torch.arange(5) >= torch.tensor([[5], [3], [3], [3]])).clone()
    losses = []
    for fill in (0.0, 9.0, float("nan")):
        changed = {**batch, "action": batch["action"].masked_fill(batch[ACTION_DIM_IS_PAD][:, None], fill)}
        losses.append(policy.compute_loss(changed, torch.Generator().manual_seed(0)).loss)
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])
    without = {key: value for key, value in batch.items() if key != ACTION_DIM_IS_PAD}
    assert not torch.equal(policy.compute_loss(without, torch.Generator().manual_seed(0)).loss, losses[0])


def test_slots_put_a_robots_features_in_their_places():
    stats = {"mean": [1.0] * 2, "std": [2.0] * 2, "min": [-1.0] * 2, "max": [3.0] * 2}
    camera, state, action = (
        feature("cam", "image", (8, 8, 3)),
        feature("state", "vector", (2,)),
        feature("action", "action", (2,)),
    )
    options = ProcessorOptions(images="identity", vectors="mean_std", action="min_max")
    processors = Processors({"cam": camera, "state": state}, action, options, {"state": stats, "action": stats})
    wide = {
        FRONT: feature(FRONT, "image", (8, 8, 3)),
        WRIST: feature(WRIST, "image", (8, 8, 3)),
        STATE: feature(STATE, "vector", (3,)),
    }
    processors.slots = Slots(wide, feature("action", "action", (4,)), {FRONT: "cam", STATE: "state"})
    raw = {
        "cam": np.full((2, 1, 8, 8, 3), 7, np.uint8),
        "state": np.full((2, 1, 2), 3.0, np.float32),
        "action": np.full((2, 3, 2), 3.0, np.float32),
        "action_is_pad": np.zeros((2, 3), bool),
    }
    batch = processors.batch(raw)
    assert batch[STATE].tolist() == [[[1.0, 1.0, 0.0]]] * 2
    assert batch["action"].tolist() == [[[1.0, 1.0, 0.0, 0.0]] * 3] * 2
    assert batch[ACTION_DIM_IS_PAD].tolist() == [[False, False, True, True]] * 2
    assert (batch[FRONT + ABSENT].tolist(), batch[WRIST + ABSENT].tolist()) == ([False] * 2, [True] * 2)
    assert batch[WRIST].shape == (2, 1, 3, 8, 8)
    assert "cam" not in batch
    assert processors.actions(batch["action"]).tolist() == [[[3.0, 3.0]] * 3] * 2
    again = Processors.from_dict(processors.to_dict(), processors.tensors())
    assert again.slots == processors.slots
    assert again.policy_inputs.keys() == wide.keys()


# --- training


def test_a_mixture_trains_and_its_checkpoint_is_the_first_robots(recipe, recorded, robots, tmp_path):
    progress = recorded()
    folder = train(recipe(), progress)
    assert "windows by dataset: wide 75%, narrow 25%; the checkpoint is for wide" in progress.messages
    line = json.loads((folder.parent / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"wide/dx", "wide/gripper", "narrow/vx", "narrow/wz"} <= set(line["action_error"])
    assert line["action_error"]["narrow/vx"] > 5 * line["action_error"]["wide/dx"]  # each in its own unit
    assert {"wide/loss", "narrow/loss"} <= set(line["validation_terms"])
    checkpoint = load_checkpoint(folder)
    assert checkpoint.metadata["robot"] == "wide"
    assert set(checkpoint.metadata["robots"]) == {"wide", "narrow"}
    checkpoint.check_robot(load_contract(robots["wide"] / "meta/contract.yaml"))
    with pytest.raises(CheckpointError, match="does not fit"):
        checkpoint.check_robot(load_contract(robots["narrow"] / "meta/contract.yaml"))

    other = load_checkpoint(select_robot(folder, "narrow", tmp_path / "narrow"))
    other.check_robot(load_contract(robots["narrow"] / "meta/contract.yaml"))
    assert other.metadata["robot_type"] == other.metadata["robot"] == "narrow"
    weights = [load_file(path / "model.safetensors") for path in (folder, other.path)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
    assert other.processors.action.names == ("vx", "vy", "wz")
    maximum = float(other.processors.statistics["action"]["max"].max())
    assert maximum > 10 * float(checkpoint.processors.statistics["action"]["max"].max())

    back = load_checkpoint(select_robot(other.path, "wide", tmp_path / "back"))
    assert back.processors.to_dict() == checkpoint.processors.to_dict()
    assert back.contract.hash == checkpoint.contract.hash

    predictor = TorchPredictor(other, seed=0)
    assert set(predictor.spec.input_keys) == {FRONT, STATE}
    values = {FRONT: np.zeros((1, 16, 16, 3), np.uint8), STATE: np.zeros((1, 4), np.float32)}
    observation = Observation(0, values, "push the puck to the goal", np.zeros(1, bool))
    assert predictor.predict(observation, np.ones(1, bool)).shape == (3, 3)
    with pytest.raises(CheckpointError, match=r"has no robot .narow..*Did you mean .narrow."):
        select_robot(folder, "narow", tmp_path / "x")
    with pytest.raises(CheckpointError, match="exists already"):
        select_robot(folder, "narrow", tmp_path / "narrow")


def test_a_mixture_is_resumed_and_read_ahead_exactly(recipe, recorded, tmp_path):
    whole = train(recipe(output=str(tmp_path / "whole"), workers=0), recorded())
    parts = recipe(output=str(tmp_path / "parts"), workers=2)
    with pytest.raises(KeyboardInterrupt):
        train(parts, recorded(interrupt_in_epoch=2))
    resumed = train(parts, recorded(), resume=True)
    first, second = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_the_narrow_robot_may_be_the_one_that_the_checkpoint_is_for(recipe, recorded, robots):
    checkpoint = load_checkpoint(train(recipe("narrow", epochs=1), recorded()))
    checkpoint.check_robot(load_contract(robots["narrow"] / "meta/contract.yaml"))
    assert checkpoint.policy.config.action.names == ("vx", "vy", "wz", "padding_3")
    assert set(checkpoint.processors.inputs) == {FRONT, STATE}


def test_a_checkpoint_of_one_robot_has_no_other(make_recipe, recorded, tmp_path):
    with pytest.raises(CheckpointError, match="was trained on one robot only"):
        select_robot(train(load_recipe(make_recipe(epochs=1)), recorded()), "wide", tmp_path / "x")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"policy": {"name": "rt1", "overrides": {}}},
            "policy rt1 cannot pad actions, and the robots' differ: wide 4, narrow 3",
        ),
        ({"policy": {"name": "act", "overrides": {}}}, "policy act cannot mask cameras, and 'narrow' has no"),
        (
            {"mixture": {"narrow": {"root": "ROOT"}}},
            r"inputs\[1\] 'observation.images.wrist' is not an observation of .*listed in `without`",
        ),
        (
            {"mixture": {"narrow": {"root": "ROOT", "without": [WRIST, STATE]}}},
            "'narrow' is without 'observation.state'; only cameras",
        ),
        (
            {"mixture": {"narrow": {"root": "ROOT", "without": ["observation.images.wris"]}}},
            "is none of inputs.*Did you mean",
        ),
        ({"mixture": {"a/b": {"root": "ROOT"}}}, "may have letters, digits"),
        ({"mixture": {"wide": {"root": "ROOT", "without": [WRIST]}}}, "'wide' is the robot of dataset already"),
        ({"mixture": {}, "dataset": {"root": "WIDE", "without": [WRIST]}}, "without a mixture, remove them"),
    ],
)
def test_a_mixture_that_does_not_fit_is_one_sentence(recipe, recorded, robots, changes, sentence):
    def filled(value):
        if isinstance(value, dict):
            return {key: filled(entry) for key, entry in value.items()}
        return (
            {"ROOT": str(robots["narrow"]), "WIDE": str(robots["wide"])}.get(value, value)
            if isinstance(value, str)
            else value
        )

    with pytest.raises(ConfigError, match=sentence):
        train(recipe(**filled(changes)), recorded())
