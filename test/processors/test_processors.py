import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError, ConfigError, ObservationError
from vla_ros.processors import ProcessorOptions, Processors, affine_from_statistics

FRONT, STATE, IMU, POINTS = (
    "observation.images.front",
    "observation.state",
    "observation.imu.wrist",
    "observation.points.l",
)
INPUTS = {
    FRONT: FeatureSpec(FRONT, "image", (6, 8, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (3,), "float32", ("x", "y", "still")),
    IMU: FeatureSpec(IMU, "window", (4, 6), "float32", tuple("abcdef")),
    POINTS: FeatureSpec(POINTS, "points", (5, 3), "float32", ("x", "y", "z")),
}
ACTION = FeatureSpec("action", "action", (2,), "float32", ("dx", "gripper"))


def statistics_of(values: np.ndarray) -> dict[str, np.ndarray]:
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    quantiles = np.nanquantile(flat, [0.01, 0.99], axis=0)
    return {
        "min": np.nanmin(flat, axis=0),
        "max": np.nanmax(flat, axis=0),
        "mean": np.nanmean(flat, axis=0),
        "std": np.nanstd(flat, axis=0),
        "q01": quantiles[0],
        "q99": quantiles[1],
    }


def raw_batch(size: int = 4, frames: int = 2, horizon: int = 3, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    state = rng.normal([0.1, 0.6, 0.25], [0.2, 0.05, 0.0], (size, frames, 3)).astype(np.float32)
    points = rng.normal(size=(size, frames, 5, 3)).astype(np.float32)
    points[:, :, -1] = np.nan
    return {
        FRONT: rng.integers(0, 256, (size, frames, 6, 8, 3), dtype=np.uint8),
        STATE: state,
        IMU: rng.normal(2.0, 3.0, (size, frames, 4, 6)).astype(np.float32),
        POINTS: points,
        "action": rng.uniform([-0.01, -1.0], [0.02, 1.0], (size, horizon, 2)).astype(np.float32),
        "action_is_pad": np.zeros((size, horizon), np.bool_),
        "is_pad": np.zeros((size, frames), np.bool_),
        "task": ["push"] * size,
    }


def all_statistics(raw: dict) -> dict:
    stats = {key: statistics_of(raw[key]) for key in (STATE, IMU, POINTS, "action")}
    image = statistics_of(raw[FRONT] / 255.0)
    return {**stats, FRONT: {name: value.reshape(3, 1, 1) for name, value in image.items()}}


def processors(**options) -> Processors:
    return Processors(INPUTS, ACTION, ProcessorOptions(**options), all_statistics(raw_batch(64)))


def test_images_become_channels_first_and_imagenet_normalised():
    raw = raw_batch()
    image = processors().batch(raw)[FRONT]
    expected = (raw[FRONT] / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert image.shape == (4, 2, 3, 6, 8)
    assert image.dtype == torch.float32
    np.testing.assert_allclose(image.numpy(), np.moveaxis(expected, -1, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "low", "high"), [("identity", 0.0, 1.0), ("min_max", -1.0, 1.0)], ids=["identity", "min_max"]
)
def test_image_bytes_cover_the_range_of_the_mode(mode, low, high):
    raw = raw_batch()
    raw[FRONT][0, 0, 0, 0] = 0
    raw[FRONT][0, 0, 0, 1] = 255
    image = processors(images=mode).batch(raw)[FRONT]
    assert image.min().item() == pytest.approx(low, abs=1e-6)
    assert image.max().item() == pytest.approx(high, abs=1e-6)


def test_image_mean_std_uses_the_dataset():
    raw = raw_batch(64)
    image = processors(images="mean_std").batch(raw)[FRONT]
    torch.testing.assert_close(image.mean(dim=(0, 1, 3, 4)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(image.std(dim=(0, 1, 3, 4)), torch.ones(3), atol=1e-3, rtol=0)


def test_float_image_is_refused():
    raw = raw_batch()
    raw[FRONT] = raw[FRONT] / np.float32(255)
    with pytest.raises(ObservationError, match=r"'observation.images.front' must be uint8 .* would be scaled twice"):
        processors().batch(raw)


def test_images_are_resized_when_asked():
    built = processors(image_size=(12, 10))
    assert built.policy_inputs[FRONT].shape == (12, 10, 3)
    assert built.inputs[FRONT].shape == (6, 8, 3)
    raw = raw_batch()
    raw[FRONT][:] = 100
    image = built.batch(raw)[FRONT]
    assert image.shape == (4, 2, 3, 12, 10)
    torch.testing.assert_close(image[0, 0, :, 0, 0], image[0, 0, :, 6, 5])


def test_vectors_have_zero_mean_and_unit_deviation():
    state = processors().batch(raw_batch(64))[STATE].flatten(0, 1)
    torch.testing.assert_close(state[:, :2].mean(dim=0), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(state[:, :2].std(dim=0), torch.ones(2), atol=1e-2, rtol=0)


def test_number_that_never_varies_is_centred_and_keeps_its_unit():
    built = processors()
    assert built.constant == {STATE: ("still",)}
    raw = raw_batch()
    assert built.batch(raw)[STATE][..., 2].abs().max() < 1e-6
    raw[STATE][..., 2] += 0.5
    torch.testing.assert_close(built.batch(raw)[STATE][..., 2], torch.full((4, 2), 0.5), atol=1e-6, rtol=0)


def test_actions_fill_minus_one_to_one():
    action = processors().batch(raw_batch(64))["action"]
    assert action.min().item() == pytest.approx(-1.0, abs=1e-5)
    assert action.max().item() == pytest.approx(1.0, abs=1e-5)


def test_points_stay_metric_and_missing_points_stay_missing():
    raw = raw_batch()
    points = processors().batch(raw)[POINTS]
    np.testing.assert_array_equal(points.numpy(), raw[POINTS])


def test_windows_are_normalised_per_field():
    window = processors().batch(raw_batch(64))[IMU].flatten(0, 2)
    torch.testing.assert_close(window.mean(dim=0), torch.zeros(6), atol=1e-3, rtol=0)


@settings(max_examples=50)
@given(
    mode=st.sampled_from(["mean_std", "min_max", "symmetric", "quantile", "identity"]),
    values=st.lists(st.tuples(*[st.floats(-1e3, 1e3, width=32)] * 3), min_size=2, max_size=20),
)
def test_inverse_undoes_forward(mode, values):
    array = np.array(values, np.float32)
    affine, _ = affine_from_statistics(mode, (3,), statistics_of(array), "action")
    tensor = torch.from_numpy(array)
    torch.testing.assert_close(affine.inverse(affine.forward(tensor)), tensor, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "symmetric", "quantile", "identity"])
def test_predicted_actions_come_back_in_the_contracts_units(mode):
    built, raw = processors(action=mode), raw_batch()
    back = built.actions(built.batch(raw)["action"])
    np.testing.assert_allclose(back.numpy(), raw["action"], atol=1e-7, rtol=1e-5)


def test_passed_values_and_only_the_policys_inputs_come_back():
    raw = {**raw_batch(), "observation.other": np.zeros((4, 2, 1))}
    batch = processors().batch(raw)
    assert set(batch) == {*INPUTS, "action", "action_is_pad", "is_pad", "task"}
    assert batch["task"] == ["push"] * 4
    assert batch["is_pad"].dtype == torch.bool


def test_nothing_passed_in_is_changed():
    raw, untouched = raw_batch(), raw_batch()
    processors(image_size=(4, 4)).batch(raw)
    for key, value in untouched.items():
        np.testing.assert_array_equal(raw[key], value)


def test_observation_needs_no_action():
    raw = raw_batch()
    del raw["action"], raw["action_is_pad"]
    assert "action" not in processors().observation(raw)
    with pytest.raises(ObservationError, match="lacks 'action'"):
        processors().batch(raw)


def test_saved_and_reloaded_processors_are_bit_equal():
    built = processors(keys={STATE: "quantile"}, image_size=(4, 4))
    again = Processors.from_dict(built.to_dict(), built.tensors())
    raw = raw_batch(seed=3)
    first, second = built.batch(raw), again.batch(raw)
    for key, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value.nan_to_num(1e9), second[key].nan_to_num(1e9)), key
    assert again.to_dict() == built.to_dict()
    assert set(again.tensors()) == set(built.tensors())
    assert again.policy_inputs == built.policy_inputs


def test_state_that_lacks_a_map_is_refused():
    built = processors()
    tensors = built.tensors()
    del tensors[f"map/{STATE}/scale"]
    with pytest.raises(CheckpointError, match=r"lack 'map/observation.state/scale'"):
        Processors.from_dict(built.to_dict(), tensors)


def saved(**options) -> tuple[dict, dict]:
    built = processors(**options)
    return built.to_dict(), {name: value.clone() for name, value in built.tensors().items()}


MAP, STATISTICS = f"map/{STATE}", f"statistics/{STATE}"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t[f"{MAP}/offset"].fill_(torch.nan), f"'{MAP}/offset' holds numbers that are not finite"),
        (lambda t: t[f"{MAP}/scale"].fill_(torch.inf), f"'{MAP}/scale' holds numbers that are not finite"),
        (lambda t: t[f"{MAP}/scale"].zero_(), f"'{MAP}/scale' is 0 for 'x'"),
        (lambda t: t[f"{MAP}/scale"][1:2].neg_(), f"'{MAP}/scale' is -.* for 'y'"),
        (lambda t: t[f"{MAP}/scale"][1:2].fill_(1e-30), f"'{MAP}/scale' is 1e-30 for 'y'"),
        (lambda t: t.update({f"{MAP}/scale": torch.ones(4)}), rf"'{MAP}/scale' is .* \[4\], expected .* \[3\]"),
        (
            lambda t: t.update({f"{MAP}/scale": torch.ones(3).double()}),
            f"'{MAP}/scale' is torch.float64 .* torch.float32",
        ),
        (lambda t: t.update({f"{MAP}/scale": torch.ones(3).int()}), f"'{MAP}/scale' is torch.int32"),
        (lambda t: t[f"{STATISTICS}/std"].fill_(torch.nan), f"'{STATISTICS}/std' holds numbers that are not finite"),
        (
            lambda t: t[f"{STATISTICS}/mean"][:1].fill_(torch.inf),
            f"'{STATISTICS}/mean' holds numbers that are not finite",
        ),
        (lambda t: t[f"{STATISTICS}/std"].zero_(), f"'{STATISTICS}/std' is 0 for 'x', so it never varied"),
        (lambda t: t[f"{STATISTICS}/std"].neg_(), f"'{STATISTICS}/std' is -.* for 'x', expected at least 0"),
        (lambda t: t[f"{STATISTICS}/max"].sub_(9.0), f"'{STATISTICS}/max' is .* for 'x', which is below its 'min'"),
        (lambda t: t[f"{STATISTICS}/q99"].sub_(9.0), f"'{STATISTICS}/q99' is .* for 'x', which is below its 'q01'"),
        (
            lambda t: t.update({f"{STATISTICS}/std": torch.ones(2).double()}),
            rf"'{STATISTICS}/std' is .* \[2\], expected",
        ),
        (lambda t: t.pop(f"{STATISTICS}/std"), f"the numbers lack '{STATISTICS}/std'"),
        (
            lambda t: t["statistics/action/max"].copy_(t["statistics/action/min"]),
            "'statistics/action/max' is .* never varied",
        ),
        (
            lambda t: t.update({"map/observation.stat/scale": torch.ones(3)}),
            "'map/observation.stat/scale' belongs to no",
        ),
        (lambda t: t.update({f"{STATISTICS}/q42": torch.ones(3)}), f"'{STATISTICS}/q42' belongs to no feature"),
        (lambda t: t[f"statistics/{POINTS}/mean"][:1].fill_(torch.nan), f"'statistics/{POINTS}/mean' holds numbers"),
    ],
)
def test_saved_numbers_that_no_training_makes_are_refused_by_name(change, sentence):
    content, tensors = saved()
    change(tensors)
    with pytest.raises(CheckpointError, match=rf"^numbers\.safetensors: {sentence}"):
        Processors.from_dict(content, tensors, "processors.yaml", "numbers.safetensors")


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "symmetric", "quantile"])
@pytest.mark.parametrize("value", [0.0, 0.25, -3e6])
def test_a_number_that_never_varied_loads_and_is_centred(mode, value):
    raw = raw_batch()
    raw[STATE][..., 2] = value
    raw["action"][..., 1] = value
    built = Processors(INPUTS, ACTION, ProcessorOptions(vectors=mode, action=mode), all_statistics(raw))
    assert built.constant == {STATE: ("still",), "action": ("gripper",)}
    again = Processors.from_dict(built.to_dict(), built.tensors())
    batch = again.batch(raw)
    assert not batch[STATE][..., 2].any()
    assert not batch["action"][..., 1].any()


@pytest.mark.parametrize("mode", ["mean_std", "min_max", "symmetric", "quantile"])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, -3e6])
def test_a_number_of_the_action_that_never_varied_is_that_constant_whatever_is_predicted(mode, value):
    raw = raw_batch()
    raw["action"][..., 1] = value
    built = Processors(INPUTS, ACTION, ProcessorOptions(action=mode), all_statistics(raw))
    for processors in (built, Processors.from_dict(built.to_dict(), built.tensors())):
        predicted = torch.randn(2, 3, len(ACTION.names))
        actions = processors.actions(predicted)
        assert (actions[..., 1] == torch.tensor(value, dtype=torch.float32)).all()
        assert actions[..., 0].std() > 0
        predicted[0, 0, 1] = torch.nan
        assert processors.actions(predicted)[0, 0, 1].isnan()


def test_a_number_that_varied_outside_its_quantiles_only_is_predicted():
    raw = raw_batch()
    raw["action"][..., 1] = 0.5
    statistics = all_statistics(raw)
    statistics["action"]["max"] = np.array([*statistics["action"]["max"][:1], 1.0, *statistics["action"]["max"][2:]])
    built = Processors(INPUTS, ACTION, ProcessorOptions(action="quantile"), statistics)
    assert built.actions(torch.randn(2, 3, len(ACTION.names)))[..., 1].std() > 0


@pytest.mark.parametrize("narrow", [0.0, 1e-9, 3e-6, 1e-4])
def test_quantiles_that_nearly_coincide_give_way_to_the_whole_range(narrow):
    raw = raw_batch()
    statistics = all_statistics(raw)
    statistics["action"]["q01"][1], statistics["action"]["q99"][1] = -1.0, -1.0 + narrow
    statistics["action"]["min"][1], statistics["action"]["max"][1] = -1.0, 1.0
    built = Processors(INPUTS, ACTION, ProcessorOptions(action="quantile"), statistics)
    assert not built.constant.get("action")
    raw["action"][0, :2, 1] = [-1.0, 1.0]
    for processors in (built, Processors.from_dict(built.to_dict(), built.tensors())):
        seen = processors.batch(raw)["action"]
        torch.testing.assert_close(seen[0, :2, 1], torch.tensor([-1.0, 1.0]))
        np.testing.assert_allclose(processors.actions(seen).numpy(), raw["action"], atol=1e-6)


@pytest.mark.parametrize(("centre", "spread"), [(0.0, 3e-6), (1e4, 3e-2), (-1e5, 0.2), (1e5, 1e9)])
def test_numbers_of_any_size_that_training_takes_load_again(centre, spread):
    raw = raw_batch()
    raw[STATE] = np.linspace(centre - spread, centre + spread, raw[STATE].size).reshape(raw[STATE].shape)
    for mode in ("mean_std", "min_max", "symmetric", "quantile"):
        built = Processors(INPUTS, ACTION, ProcessorOptions(vectors=mode), all_statistics(raw))
        assert not built.constant
        Processors.from_dict(built.to_dict(), built.tensors())


def test_a_stream_that_was_empty_in_every_episode_loads_where_it_is_not_normalised():
    statistics = all_statistics(raw_batch())
    statistics[POINTS] = {name: np.full(3, np.nan) for name in statistics[POINTS]}
    built = Processors(INPUTS, ACTION, ProcessorOptions(), statistics)
    assert Processors.from_dict(built.to_dict(), built.tensors()).statistics[POINTS]["mean"].isnan().all()


@pytest.mark.parametrize(
    ("key", "change", "sentence"),
    [
        (STATE, {"shape": [4]}, r"of kind vector has the shape \[4\] and 3 names"),
        (STATE, {"shape": [1, 3]}, "expected 1 sizes"),
        (STATE, {"shape": [-3]}, r"has the shape \[-3\]"),
        (FRONT, {"shape": [6, 8, 4], "names": ["a", "b", "c", "d"]}, r"has the shape \[6, 8, 4\]"),
        (FRONT, {"shape": [0, 8, 3]}, r"has the shape \[0, 8, 3\]"),
        (FRONT, {"shape": [10**30, 8, 3]}, "has the shape"),
        (STATE, {"key": "observation.other"}, "'observation.other' stands under the key 'observation.state'"),
    ],
)
def test_saved_features_that_contradict_themselves_are_refused(key, change, sentence):
    content, tensors = saved()
    content["inputs"][key].update(change)
    with pytest.raises(CheckpointError, match=sentence):
        Processors.from_dict(content, tensors)


def test_missing_input_is_named_with_the_nearest():
    raw = raw_batch()
    raw["observation.stat"] = raw.pop(STATE)
    with pytest.raises(ObservationError, match=r"lacks observation.state;.*Did you mean 'observation.stat'"):
        processors().observation(raw)


def test_wrong_shape_is_named():
    raw = raw_batch()
    raw[STATE] = raw[STATE][..., :2]
    with pytest.raises(ObservationError, match=r"'observation.state' must be \[B, T, 3\], got \[4, 2, 2\]"):
        processors().observation(raw)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"keys": {"observation.stat": "min_max"}},
            r"this policy has no 'observation.stat'.*Did you mean 'observation.state'",
        ),
        ({"keys": {STATE: "min_maxx"}}, r"normalisation of 'observation.state': 'min_maxx' is not one of .*'min_max'"),
        ({"keys": {FRONT: "quantile"}}, r"normalisation of 'observation.images.front': 'quantile' is not one of"),
        ({"image_size": (0, 4)}, "must be 1×1 to 32768×32768 pixels"),
        ({"image_size": (4, 10**6)}, "must be 1×1 to 32768×32768 pixels"),
    ],
)
def test_bad_options_are_one_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        processors(**options)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda s: s[STATE].pop("std"), "no statistic 'std' of 'observation.state'"),
        (lambda s: s[STATE].update(std=np.full(3, np.nan)), "'std' of 'observation.state' is not finite"),
        (lambda s: s[STATE].update(std=np.ones(2)), r"has 2 numbers, expected \(3,\)"),
        (lambda s: s.pop("action"), "no statistic 'min' of 'action'"),
        (lambda s: s[STATE].update(std=-s[STATE]["std"]), "'std' of 'observation.state' is negative"),
        (lambda s: s["action"].update(max=s["action"]["min"] - 1.0), "'max' of 'action' is below 'min'"),
    ],
)
def test_unusable_statistics_are_one_sentence(change, sentence):
    statistics = all_statistics(raw_batch(8))
    change(statistics)
    with pytest.raises(ConfigError, match=sentence):
        Processors(INPUTS, ACTION, ProcessorOptions(), statistics)
