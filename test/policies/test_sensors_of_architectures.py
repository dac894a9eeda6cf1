"""Every architecture that reads tokens takes every sensor by the same encoders: a recipe names the key."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.policies.base import Policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.policies.registry import build_policy

FRONT, STATE = "observation.images.front", "observation.state"
TRAINING = ("action", "action_is_pad", "past_action")


def feature(key: str, kind: Any, shape: tuple[int, ...]) -> FeatureSpec:
    names = tuple(f"n{i}" for i in range(shape[-1]))
    return FeatureSpec(key, kind, shape, "uint8" if kind == "image" else "float32", names)


SENSORS = {
    "observation.points.lidar": ("points", (40, 3)),
    "observation.scan.lidar": ("points", (40, 2)),
    "observation.radar.front": ("points", (6, 5)),
    "observation.imu.wrist": ("window", (12, 6)),
    "observation.wrench.tool": ("window", (8, 6)),
}
_FLOW = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 16, "mlp_dim": 16},
    "action_expert": {"width": 16, "mlp_dim": 16},
    "text": None,
    "flow_steps": 2,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "act": (
        "act",
        {"width": 16, "n_heads": 2, "mlp_dim": 16, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0},
    ),
    "grp": ("grp", {"width": 16, "depth": 1, "n_heads": 2, "text": None, "dropout": 0}),
    "pi0": ("pi0", _FLOW),
    "flow_ar": ("flow_ar", {**_FLOW, "bins": 8}),
    "rt1": (
        "rt1",
        {
            "n_obs_steps": 2, "trunk": "small_conv", "grid": None, "token_dim": 16, "tokens_per_image": 2, "depth": 1,
            "n_heads": 2, "mlp_dim": 16, "bins": 8, "text": None, "dropout": 0,
        },
    ),
    "multi_sensor": ("multi_sensor", {"width": 16, "n_heads": 2, "hidden_dims": [16]}),
}  # fmt: skip


def build(architecture: str, *keys: str, **options: Any) -> Policy:
    torch.manual_seed(0)
    name, own = ARCHITECTURES[architecture]
    inputs = {FRONT: feature(FRONT, "image", (16, 16, 3)), STATE: feature(STATE, "vector", (3,))}
    inputs |= {key: feature(key, *SENSORS[key]) for key in keys}
    config = {"inputs": inputs, "action": feature("action", "action", (4,)), "action_horizon": 3, "n_action_steps": 1}
    return build_policy(name, {**config, **own, **options})


def observed(policy: Policy, batch_size: int = 2) -> dict[str, Any]:
    batch = make_example_batch(policy.config, batch_size)
    return {key: value for key, value in batch.items() if key not in TRAINING}


def predicted(policy: Policy, observation: dict[str, Any]) -> Tensor:
    actions: Tensor = policy.predict_action_chunk(observation, generator=torch.Generator().manual_seed(3)).actions
    return actions


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("key", SENSORS)
def test_a_sensor_is_learnt_from(architecture: str, key: str) -> None:
    policy = build(architecture, key)
    batch = make_example_batch(policy.config, 4)
    batch[key].requires_grad_()
    policy.compute_loss(batch, torch.Generator().manual_seed(0)).loss.backward()
    assert batch[key].grad is not None
    assert batch[key].grad.any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
class TestOptionalSensors:
    KEYS = ("observation.scan.lidar", "observation.imu.wrist")

    def test_nothing_but_nan_is_a_missing_key(self, architecture: str) -> None:
        policy = build(architecture, *self.KEYS, optional=[self.KEYS[0]]).eval()
        observation = observed(policy)
        without = {key: value for key, value in observation.items() if key != self.KEYS[0]}
        observation[self.KEYS[0]] = torch.full_like(observation[self.KEYS[0]], torch.nan)
        torch.testing.assert_close(predicted(policy, observation), predicted(policy, without))

    def test_present_and_absent_in_one_batch_are_their_rows_alone(self, architecture: str) -> None:
        policy = build(architecture, *self.KEYS, optional=list(self.KEYS)).eval()
        observation = observed(policy)
        observation[self.KEYS[0]][1] = torch.nan
        observation[self.KEYS[1]][0] = torch.nan
        weights = policy.state_dict()
        present = build(architecture, *self.KEYS, optional=list(self.KEYS)).eval()
        present.load_state_dict(weights)
        # noise is drawn for a whole batch: the rows are compared within batches of two equal rows
        together = predicted(policy, observation)
        for row, missing in enumerate((self.KEYS[1], self.KEYS[0])):
            twice = {k: v[[row, row]] if isinstance(v, Tensor) else [v[row]] * 2 for k, v in observation.items()}
            twice = {k: v for k, v in twice.items() if k != missing}
            torch.testing.assert_close(predicted(present, twice)[row], together[row])

    def test_a_required_one_is_named(self, architecture: str) -> None:
        policy = build(architecture, *self.KEYS, optional=[self.KEYS[0]]).eval()
        observation = observed(policy)
        del observation[self.KEYS[1]]
        with pytest.raises(ObservationError, match=r"observation\.imu\.wrist"):
            predicted(policy, observation)

    def test_training_hides_it_now_and_then(self, architecture: str) -> None:
        policy = build(architecture, *self.KEYS, optional=[self.KEYS[0]], modality_dropout=0.5).train()
        batch = make_example_batch(policy.config, 8)
        losses = set()
        for seed in range(5):
            torch.manual_seed(seed)
            losses.add(policy.compute_loss(batch, torch.Generator().manual_seed(seed)).loss.item())
        assert len(losses) > 1


def test_bc_has_no_tokens_and_says_so() -> None:
    inputs = {FRONT: feature(FRONT, "image", (16, 16, 3)), "observation.scan.lidar": feature("s", "points", (40, 2))}
    with pytest.raises(ConfigError, match=r"observation\.scan\.lidar"):
        build_policy("bc", {"inputs": inputs, "action": feature("action", "action", (4,))})


def test_an_optional_input_must_be_a_sensor() -> None:
    with pytest.raises(ConfigError, match="optional"):
        build("act", "observation.scan.lidar", optional=[STATE])
