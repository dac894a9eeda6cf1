"""The multi-sensor policy: sensors that are missing, what is remembered, the view from above, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.policies.base import Policy
from vla_ros.policies.examples import make_example_batch
from vla_ros.policies.multi_sensor import MultiSensorConfig, MultiSensorVLA
from vla_ros.policies.registry import build_policy, policy_config

FRONT, LEFT = "observation.images.front", "observation.images.left"
SCAN, IMU, RADAR, STATE = (f"observation.{name}" for name in ("scan.lidar", "imu.base", "radar.front", "state"))
TRAINING = ("action", "action_is_pad", "past_action")


def feature(key: str, kind: Any, shape: tuple[int, ...], names: tuple[str, ...] = ()) -> FeatureSpec:
    dtype = "uint8" if kind == "image" else "float32"
    return FeatureSpec(key, kind, shape, dtype, names or tuple(f"n{i}" for i in range(shape[-1])))


INPUTS = {
    FRONT: feature(FRONT, "image", (40, 64, 3)),
    LEFT: feature(LEFT, "image", (40, 64, 3)),
    SCAN: feature(SCAN, "points", (60, 2)),
    IMU: feature(IMU, "window", (12, 6)),
    RADAR: feature(RADAR, "points", (6, 5)),
    STATE: feature(STATE, "vector", (4,)),
}
ACTION = feature("action", "action", (3,), ("x", "y", "yaw"))
# a camera that looks along the robot's x: rotation of the optical frame by (−½, ½, −½, ½)
CALIBRATION = {
    "intrinsics": (40.0, 40.0, 31.5, 19.5),
    "rotation": (-0.5, 0.5, -0.5, 0.5),
    "translation": (0.1, 0.0, 0.5),
}
BEV = {
    "bev": {"x_range": (0.0, 4.0), "y_range": (-2.0, 2.0), "cell": 0.5, "tokens": (2, 2)},
    "calibration": {FRONT: CALIBRATION, LEFT: CALIBRATION},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bev": BEV,
    "trajectory": {"head": "trajectory"},
    "gru": {"temporal": "gru", "n_obs_steps": 4},
    "history": {"temporal": "history", "n_obs_steps": 4},
    "memory": {"memory": {"capacity": 3, "period_s": 0.1}, "n_obs_steps": 4},
    "hierarchical": {"fusion": "hierarchical", "scene": [SCAN, RADAR]},
    "concatenation": {"fusion": "concatenation"},
    "optional": {"optional": [SCAN, RADAR]},
    "instruction": {"text": {"kind": "characters", "length": 20}},
}


def build(**options: Any) -> Policy:
    torch.manual_seed(0)
    sensors = {SCAN: {"encoder": "range_image", "options": {"azimuths": 32, "sectors": 4, "channels": 8}}}
    config = {
        "inputs": INPUTS, "action": ACTION, "width": 16, "n_heads": 2, "n_queries": 2, "hidden_dims": [16],
        "action_horizon": 6, "n_action_steps": 2, "sensors": sensors,
    }  # fmt: skip
    return build_policy("multi_sensor", {**config, **options}).eval()


def observed(policy: Policy, batch_size: int = 3) -> dict[str, Any]:
    batch = make_example_batch(policy.config, batch_size)
    return {key: value for key, value in batch.items() if key not in TRAINING}


def opened(policy: Policy) -> Policy:
    """A memory's gate begins closed; here it has learnt to open."""
    policy.get_parameter("memory.gate").data.fill_(0.7)
    return policy


@pytest.mark.parametrize("name", VARIANTS)
class TestEveryVariant:
    def test_every_weight_learns(self, name: str) -> None:
        policy = build(**VARIANTS[name]).train()
        if name == "memory":
            opened(policy)
        batch = make_example_batch(policy.config, 16)
        policy.compute_loss(batch, torch.Generator().manual_seed(0)).loss.backward()
        weights = {key: weight for key, weight in policy.named_parameters() if weight.numel()}
        assert [key for key, weight in weights.items() if weight.grad is None or not weight.grad.any()] == []

    def test_a_sample_is_predicted_as_it_would_be_alone(self, name: str) -> None:
        policy = build(**VARIANTS[name])
        observation = observed(policy)
        together = policy.predict_action_chunk(observation).actions
        assert together.shape == (3, 6, 3)
        for row in range(3):
            alone = {key: value[row : row + 1] for key, value in observation.items()}
            torch.testing.assert_close(policy.predict_action_chunk(alone).actions, together[row : row + 1])

    def test_padded_steps_change_no_loss(self, name: str) -> None:
        policy = build(**VARIANTS[name])
        batch = make_example_batch(policy.config, 3)
        batch["action_is_pad"][:, 3:] = True
        before = policy.compute_loss(batch).loss
        batch["action"][:, 3:] = torch.nan
        assert torch.equal(policy.compute_loss(batch).loss, before)


class TestMissingSensors:
    def test_a_sensor_of_nan_is_a_sensor_that_is_not_there(self) -> None:
        policy = build(optional=[SCAN])
        observation = observed(policy)
        without = {key: value for key, value in observation.items() if key != SCAN}
        expected = policy.predict_action_chunk(without).actions
        observation[SCAN] = torch.full_like(observation[SCAN], torch.nan)
        torch.testing.assert_close(policy.predict_action_chunk(observation).actions, expected)

    def test_present_and_absent_in_one_batch_are_their_rows_alone(self) -> None:
        policy = build(optional=[SCAN, RADAR])
        observation = observed(policy)
        observation[SCAN][1] = torch.nan
        observation[RADAR][1:] = torch.nan
        together = policy.predict_action_chunk(observation).actions
        for row, missing in enumerate(((), (SCAN, RADAR), (RADAR,))):
            alone = {key: value[row : row + 1] for key, value in observation.items() if key not in missing}
            torch.testing.assert_close(policy.predict_action_chunk(alone).actions, together[row : row + 1])

    def test_what_is_required_is_named_when_it_is_missing(self) -> None:
        policy = build(optional=[RADAR])
        observation = observed(policy)
        del observation[SCAN], observation[RADAR]
        with pytest.raises(ObservationError, match=r"observation\.scan\.lidar"):
            policy.predict_action_chunk(observation)

    def test_training_hides_sensors_and_prediction_does_not(self) -> None:
        policy = build(optional=[SCAN, RADAR], modality_dropout=0.5)
        batch = make_example_batch(policy.config, 8)
        assert policy.compute_loss(batch).loss == policy.compute_loss(batch).loss
        policy.train()
        losses = {policy.compute_loss(batch, torch.Generator().manual_seed(s)).loss.item() for s in range(4)}
        assert len(losses) > 1


class TestMemory:
    def test_it_begins_as_the_policy_without_one(self) -> None:
        with_memory, without = build(**VARIANTS["memory"]), build(n_obs_steps=1)
        weights = {k: v for k, v in with_memory.state_dict().items() if not k.startswith("memory.")}
        without.load_state_dict(weights)
        observation = observed(with_memory)
        newest = {k: v[:, -1:] if isinstance(v, Tensor) else v for k, v in observation.items()}
        torch.testing.assert_close(
            with_memory.predict_action_chunk(observation).actions, without.predict_action_chunk(newest).actions
        )

    @pytest.mark.parametrize("name", ["memory", "gru"])
    def test_a_sequence_at_once_is_its_ticks_one_by_one(self, name: str) -> None:
        policy = build(**{**VARIANTS[name], "n_obs_steps": 6})
        stepped = build(**{**VARIANTS[name], "n_obs_steps": 2})
        stepped.load_state_dict(policy.state_dict())
        if name == "memory":
            opened(policy), opened(stepped)
        observation = observed(policy)
        expected = policy.predict_action_chunk(observation)
        state = None
        for tick in range(6):
            frames = [max(tick - 1, 0), tick]
            window = {k: v[:, frames] if isinstance(v, Tensor) else v for k, v in observation.items()}
            window["is_pad"] = torch.tensor([[tick == 0, False]]).expand(3, 2)
            window["is_known"] = torch.tensor([[tick > 0, False]]).expand(3, 2)
            output = stepped.predict_action_chunk(window, state)
            state = output.state
        torch.testing.assert_close(output.actions, expected.actions)
        assert state is not None
        assert expected.state is not None
        for key, value in expected.state.items():
            torch.testing.assert_close(state[key], value)

    def test_two_new_frames_at_once_are_two_ticks(self) -> None:
        policy = opened(build(**VARIANTS["memory"]))
        observation = observed(policy)
        known = torch.tensor([[True, True, False, False]]).expand(3, 4)
        first = policy.predict_action_chunk(
            {k: v[:, [0, 0, 0, 1]] if isinstance(v, Tensor) else v for k, v in observation.items()}
            | {"is_pad": torch.tensor([[True, True, False, False]]).expand(3, 4)}
        )
        both = policy.predict_action_chunk({**observation, "is_known": known}, first.state)
        torch.testing.assert_close(both.actions, policy.predict_action_chunk(observation).actions)

    def test_gradients_stop_where_the_recipe_says(self) -> None:
        def first_frame_gradient(ticks: int | None) -> bool:
            memory = {"capacity": 8, "period_s": 0.1, "backprop_ticks": ticks}
            policy = opened(build(memory=memory, n_obs_steps=6))
            batch = make_example_batch(policy.config, 2)
            batch["action_is_pad"][:] = True
            batch["action_is_pad"][:, 0] = False  # only the newest frame's first action counts
            batch["is_pad"][:, 1:5] = False
            batch[STATE].requires_grad_()
            context, _ = policy._through_time(policy._frames(batch, slice(None)), None, {})  # type: ignore[operator]
            context[:, -1].square().sum().backward()
            return bool(batch[STATE].grad[:, 0].any())

        assert first_frame_gradient(None)
        assert not first_frame_gradient(2)


class TestHistory:
    def test_actions_between_frames_are_those_predicted_before(self) -> None:
        policy = build(**VARIANTS["history"])
        observation = observed(policy)
        first = policy.predict_action_chunk(observation)
        assert first.state is not None
        known = torch.tensor([[True, True, False, False]]).expand(3, 4)
        second = policy.predict_action_chunk({**observation, "is_known": known}, first.state)
        assert second.state is not None
        torch.testing.assert_close(second.state["past_action"][:, -2:], first.actions[:, :2])


class MySensorEncoder(nn.Module):
    """As a stranger writes one: features of a fixed size."""

    def __init__(self, output_dim: int) -> None:
        super().__init__()
        self.layer = nn.Linear(5, output_dim)

    def forward(self, values: Tensor) -> Tensor:
        features: Tensor = self.layer(values)
        return features


@pytest.mark.parametrize("name", ["depth", "value"])
def test_an_image_of_one_number_a_pixel_needs_its_encoder_and_height(name: str) -> None:
    key = "observation.images.front_depth" if name == "depth" else "observation.radar.map"
    inputs = {STATE: INPUTS[STATE], key: feature(key, "points", (48, 1), (name,))}
    with pytest.raises(ConfigError, match=rf"sensors: '{key}' is an image of one number a pixel and needs its encoder"):
        build(inputs=inputs, sensors={})
    for encoder in ("raster", "range_doppler"):
        sensors = {key: {"encoder": encoder, "options": {"rows": 6, "grid": (2, 2)}}}
        policy = build(inputs=inputs, sensors=sensors)
        assert policy.predict_action_chunk(observed(policy)).actions.shape == (3, 6, 3)
    with pytest.raises(ConfigError, match=rf"sensors.{key}: .*7 rows do not fit \[48, 1\]"):
        build(inputs=inputs, sensors={key: {"encoder": "raster", "options": {"rows": 7}}})


def test_a_model_is_made_of_sensor_encoders_alone() -> None:
    model = MultiSensorVLA(sensor_encoders={"my_sensor": MySensorEncoder(output_dim=256)})
    said = model({"my_sensor": torch.randn(2, 5)})
    assert said.waypoints_BMH3.shape == (2, 3, 8, 3)
    assert said.probabilities().sum(1).tolist() == pytest.approx([1.0, 1.0])


def test_encoders_of_other_widths_are_brought_to_the_models() -> None:
    encoders = {"a": MySensorEncoder(32), "b": MySensorEncoder(16)}
    encoders["a"].output_dim = 32  # type: ignore[assignment]
    model = MultiSensorVLA(encoders, width=16, n_heads=2, optional=["a"]).eval()
    values = {"a": torch.randn(2, 5), "b": torch.randn(2, 5)}
    assert model(values).logits_BM.shape == (2, 3)
    missing = model({"b": values["b"]}).logits_BM
    assert torch.isfinite(missing).all()
    with pytest.raises(ObservationError, match="b"):
        model({"a": values["a"]})


def test_the_view_from_above_puts_what_a_camera_sees_where_it_is() -> None:
    policy = build(**BEV)
    vision = policy.model.encoders[0].encoder  # type: ignore[union-attr,index]
    images = [torch.zeros(1, 3, 40, 64), torch.zeros(1, 3, 40, 64)]
    dark = vision(images).tokens_BND
    for image in images:  # a light at the right edge of the picture, so to the right of the robot (negative y)
        image[:, :, 15:, 52:] = 5.0
    changed = (vision(images).tokens_BND - dark).abs().sum(-1)[0].reshape(2, 2)
    assert changed[:, 0].sum() > 1.5 * changed[:, 1].sum()


def test_the_intrinsics_are_those_of_the_feature_where_the_recipe_gives_none() -> None:
    mounting = {name: value for name, value in CALIBRATION.items() if name != "intrinsics"}
    info = {"height": 40, "width": 64, "k": [41.0, 0, 31.0, 0, 42.0, 19.0, 0, 0, 1], "d": [0.0] * 5}
    inputs = {**INPUTS, FRONT: replace(INPUTS[FRONT], camera_info=info)}
    options = {"bev": BEV["bev"], "calibration": {FRONT: mounting, LEFT: CALIBRATION}}
    config = build(inputs=inputs, **options).config
    again = policy_config("multi_sensor", config.to_dict())
    for found in (config, again):
        assert isinstance(found, MultiSensorConfig)
        assert found.intrinsics(FRONT) == (41.0, 42.0, 31.0, 19.0)
        assert found.intrinsics(LEFT) == (40.0, 40.0, 31.5, 19.5)
    with pytest.raises(ConfigError, match="no CameraInfo"):
        build(**options)
    bent = {**inputs, FRONT: replace(INPUTS[FRONT], camera_info={**info, "d": [0.1, 0, 0, 0, 0]})}
    with pytest.raises(ConfigError, match="distorted"):
        build(inputs=bent, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sensors": {"observation.scan.lidr": {"encoder": "range_image"}}}, "Did you mean 'observation.scan.lidar'"),
        ({"sensors": {SCAN: {"encoder": "range_imge"}}}, "range_image"),
        ({"sensors": {SCAN: {"encoder": "range_image", "options": {"azimuth": 3}}}}, "azimuth"),
        ({"optional": [STATE]}, "optional"),
        ({"modality_dropout": 0.5}, "only with optional"),
        ({"n_obs_steps": 3}, "n_obs_steps=3"),
        ({"bev": {}}, "calibration of every camera"),
        ({"calibration": {FRONT: CALIBRATION}}, "only with bev"),
        ({"head": "trajectory", "tanh": True}, "tanh"),
        ({"fusion": "hierarchical", "scene": [SCAN]}, "at least two"),
        ({"scene": [SCAN, RADAR]}, "only with fusion 'hierarchical'"),
        ({"memory": {"capacity": 3}, "temporal": "history", "n_obs_steps": 3}, "choose one"),
        ({"fusion": "crossmodal"}, "cross_modal"),
        ({"n_modes": 2}, "only with head 'trajectory'"),
    ],
)
def test_options_that_cannot_be_say_why(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build(**options)


def test_a_trajectory_needs_x_y_and_yaw() -> None:
    with pytest.raises(ConfigError, match="x, y, yaw"):
        build(action=feature("action", "action", (2,), ("v", "w")), head="trajectory")
