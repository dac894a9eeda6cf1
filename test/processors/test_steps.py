"""Steps between robot and policy: each fitted on what those before it make of the data, undone in reverse, saved."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError, ConfigError, ObservationError
from vla_ros.processors import ProcessorOptions, Processors, ProcessorStep, StepChoice, TextSpec
from vla_ros.processors.fitting import RowSummary
from vla_ros.registry import PROCESSORS

TOOL = "observation.tool"
POSE = ("x", "y", "z", "qx", "qy", "qz", "qw")
INPUTS = {TOOL: FeatureSpec(TOOL, "vector", (7,), "float32", tuple(f"tool_{name}" for name in POSE))}
ACTION = FeatureSpec("action", "action", (8,), "float32", (*POSE, "gripper"))
MEASURED = INPUTS[TOOL].names
RELATIVE = StepChoice(
    name="relative_actions",
    options={
        "key": TOOL,
        "action": {"position": list(POSE[:3]), "rotation": list(POSE[3:])},
        "measured": {"position": list(MEASURED[:3]), "rotation": list(MEASURED[3:])},
    },
)
SIX = StepChoice(name="rotation_form", options={"rotation": list(POSE[3:])})
STATE_SIX = StepChoice(name="rotation_form", options={"key": TOOL, "rotation": list(MEASURED[3:])})


def poses(shape: tuple[int, ...], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turns = Rotation.random(int(np.prod(shape)), random_state=seed).as_quat().reshape(*shape, 4)
    return np.concatenate([rng.normal(size=(*shape, 3)), turns], axis=-1).astype(np.float32)


def raw_batch(size: int = 6, frames: int = 2, horizon: int = 3, seed: int = 0) -> dict[str, Any]:
    gripper = np.random.default_rng(seed).uniform(-1, 1, (size, horizon, 1)).astype(np.float32)
    return {
        TOOL: poses((size, frames), seed),
        "action": np.concatenate([poses((size, horizon), seed + 1), gripper], axis=-1),
        "action_is_pad": np.zeros((size, horizon), np.bool_),
        "task": ["draw"] * size,
    }


def statistics_of(rows: np.ndarray) -> dict[str, np.ndarray]:
    low, high = np.quantile(rows, [0.01, 0.99], axis=0)
    moments = {"min": rows.min(0), "max": rows.max(0), "mean": rows.mean(0), "std": rows.std(0)}
    return {**moments, "q01": low, "q99": high}


def built(*steps: StepChoice, raw: dict | None = None, **options: Any) -> Processors:
    raw = raw_batch(200) if raw is None else raw
    flat = {key: raw[key].reshape(-1, raw[key].shape[-1]).astype(np.float64) for key in (TOOL, "action")}
    statistics = {key: statistics_of(values) for key, values in flat.items()}

    def windows(keys):
        half = len(raw["action"]) // 2
        for part in (slice(0, half), slice(half, None)):
            yield {key: raw[key][part] for key in (*keys, "action", "action_is_pad")}

    return Processors(INPUTS, ACTION, ProcessorOptions(**options), statistics, steps=steps, windows=windows)


def identity(*steps: StepChoice, raw: dict | None = None) -> Processors:
    return built(*steps, raw=raw, vectors="identity", action="identity")


def matrices(pose: np.ndarray) -> np.ndarray:
    result = np.zeros((*pose.shape[:-1], 4, 4))
    turns = Rotation.from_quat(pose[..., 3:7].reshape(-1, 4)).as_matrix()
    result[..., :3, :3] = turns.reshape(*pose.shape[:-1], 3, 3)
    result[..., :3, 3], result[..., 3, 3] = pose[..., :3], 1.0
    return result


def test_actions_are_relative_in_se3_to_the_newest_pose_for_every_step_of_the_chunk():
    raw = raw_batch()
    got = identity(RELATIVE).batch(raw)["action"].numpy()
    expected = np.linalg.inv(matrices(raw[TOOL][:, -1]))[:, None] @ matrices(raw["action"])
    np.testing.assert_allclose(matrices(got), expected, atol=1e-5)
    np.testing.assert_array_equal(got[..., 7], raw["action"][..., 7])


def test_a_robot_that_stands_elsewhere_and_turned_sees_the_same_relative_actions():
    raw = raw_batch()
    moved = {**raw, TOOL: raw[TOOL].copy(), "action": raw["action"].copy()}
    turn, shift = Rotation.from_rotvec([0.4, -1.1, 2.0]), np.array([0.7, -3.0, 0.2])
    for key in (TOOL, "action"):
        flat = moved[key].reshape(-1, moved[key].shape[-1])
        flat[:, :3] = turn.apply(flat[:, :3]) + shift
        flat[:, 3:7] = (turn * Rotation.from_quat(flat[:, 3:7])).as_quat()
    first, second = (identity(RELATIVE, SIX).batch(one)["action"] for one in (raw, moved))
    torch.testing.assert_close(first, second, atol=2e-5, rtol=0)


def test_where_the_hand_is_already_nothing_is_left_to_do():
    raw = raw_batch()
    raw["action"][..., :7] = raw[TOOL][:, -1:]
    action = identity(RELATIVE, SIX).batch(raw)["action"]
    still = torch.tensor([0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    torch.testing.assert_close(action[..., :9], still.expand(6, 3, 9), atol=1e-6, rtol=0)


def test_a_position_alone_is_relative_along_the_axes_of_the_hand():
    options = {**RELATIVE.options, "action": {"position": list(POSE[:3])}}
    raw = raw_batch()
    got = identity(StepChoice(name="relative_actions", options=options)).batch(raw)["action"]
    turn = Rotation.from_quat(raw[TOOL][:, -1, 3:])
    expected = turn.inv().apply(raw["action"][:, 2, :3] - raw[TOOL][:, -1, :3])
    np.testing.assert_allclose(got[:, 2, :3], expected, atol=1e-5)
    np.testing.assert_array_equal(got[..., 3:].numpy(), raw["action"][..., 3:])


@pytest.mark.parametrize("steps", [(RELATIVE,), (SIX,), (RELATIVE, SIX), (STATE_SIX,), (RELATIVE, STATE_SIX, SIX)])
@pytest.mark.parametrize("mode", ["min_max", "mean_std", "symmetric", "quantile"])
def test_predicted_actions_come_back_as_the_poses_that_they_were(steps, mode):
    raw, processors = raw_batch(seed=5), built(*steps, action=mode)
    back = processors.actions(processors.batch(raw)["action"], raw).numpy()
    np.testing.assert_allclose(matrices(back), matrices(raw["action"]), atol=1e-5)
    np.testing.assert_allclose(back[..., 7], raw["action"][..., 7], atol=1e-6)


def test_statistics_are_those_of_the_space_that_the_policy_sees():
    raw = raw_batch(200)
    processors = built(RELATIVE, SIX, raw=raw, action="min_max")
    seen = processors.batch(raw)["action"].flatten(0, 1)
    torch.testing.assert_close(seen.amin(dim=0), -torch.ones(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.amax(dim=0), torch.ones(10), atol=1e-5, rtol=0)
    by_mean = built(RELATIVE, STATE_SIX, SIX, raw=raw, action="mean_std").batch(raw)
    torch.testing.assert_close(
        by_mean["action"].flatten(0, 1).std(dim=0, correction=0), torch.ones(10), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(by_mean[TOOL][:, -1].mean(dim=0), torch.zeros(9), atol=1e-5, rtol=0)


def test_features_say_what_goes_in_and_out_of_every_step():
    processors = built(RELATIVE, SIX, STATE_SIX)
    processors.use_text(TextSpec(length=8))
    assert [step.name for step in processors.steps] == [
        "relative_actions",
        "rotation_form",
        "rotation_form",
        "normalise",
        "text",
    ]
    assert processors.action == ACTION
    assert processors.policy_action.shape == (10,)
    assert processors.policy_action.names[:4] == ("x", "y", "z", "rotation_xx")
    assert processors.policy_inputs[TOOL].shape == (9,)
    batch = processors.batch(raw_batch())
    assert batch["action"].shape == (6, 3, 10)
    assert batch[TOOL].shape == (6, 2, 9)
    assert batch["task_tokens"].shape == (6, 8)


@pytest.mark.parametrize("filler", [np.nan, 0.0, 1e9])
def test_padded_steps_count_for_nothing_whatever_stands_there(filler):
    raw = raw_batch(50)
    raw["action_is_pad"][:20, 1:] = True
    other = {**raw, "action": raw["action"].copy()}
    other["action"][:20, 1:] = filler
    one, two = (built(RELATIVE, SIX, raw=values, action="quantile") for values in (raw, other))
    for name, values in one.tensors().items():
        if not name.startswith("statistics/"):
            assert torch.equal(values, two.tensors()[name]), name
    seen = two.batch(other)["action"]
    assert (seen[:20, 1:] == 0.0).all()
    assert torch.equal(seen, one.batch(raw)["action"])


def test_a_padded_frame_may_hold_no_rotation():
    raw = {**raw_batch(), "is_pad": np.zeros((6, 2), np.bool_)}
    raw["is_pad"][:, 0], raw[TOOL][:, 0] = True, np.nan
    assert identity(STATE_SIX).batch(raw)[TOOL][:, 1].isfinite().all()


def test_the_pose_that_an_action_is_relative_to_is_never_an_augmented_one():
    raw = raw_batch()
    augmented = {**raw, TOOL: poses((6, 2), 99)}
    processors = identity(RELATIVE)
    torch.testing.assert_close(processors.batch(augmented, raw)["action"], processors.batch(raw)["action"])
    assert torch.equal(processors.batch(augmented, raw)[TOOL], torch.from_numpy(augmented[TOOL]))


def test_six_numbers_are_the_first_two_columns_and_any_six_come_back_as_a_rotation():
    raw, processors = raw_batch(), identity(SIX)
    six = processors.batch(raw)["action"][..., 3:9].numpy()
    matrix = Rotation.from_quat(raw["action"][..., 3:7].reshape(-1, 4)).as_matrix().reshape(6, 3, 3, 3)
    np.testing.assert_allclose(six, np.concatenate([matrix[..., 0], matrix[..., 1]], -1), atol=1e-6)
    back = processors.actions(torch.randn(5, 3, 10))
    np.testing.assert_allclose(np.linalg.norm(back[..., 3:7], axis=-1), 1.0, atol=1e-5)


def test_six_predicted_numbers_that_stand_for_no_rotation_become_nan_and_no_motion():
    predicted = torch.randn(2, 3, 10)
    predicted[0, 1, 3:9] = 0.0
    back = identity(RELATIVE, SIX).actions(predicted, raw_batch(2))
    assert back[0, 1, 3:7].isnan().all()
    assert back.isnan().sum() == 4


def test_saved_and_reloaded_steps_are_bit_equal():
    processors = built(RELATIVE, SIX, STATE_SIX, action="quantile")
    processors.use_text(TextSpec(length=8))
    raw = raw_batch(seed=3)
    processors.batch(raw)
    again = Processors.from_dict(processors.to_dict(), processors.tensors())
    first, second = processors.batch(raw), again.batch(raw)
    assert all(torch.equal(first[key], second[key]) for key in ("action", TOOL, "task_tokens"))
    assert torch.equal(processors.actions(first["action"], raw), again.actions(first["action"], raw))
    assert again.to_dict() == processors.to_dict()
    assert set(again.tensors()) == set(processors.tensors())


class Centred(ProcessorStep):
    """A step with a state of its own: the mean action."""

    name: ClassVar[str] = "test_centred"

    def fit(self, data):
        self.mean = torch.from_numpy(np.asarray(data.statistics("action")["mean"])).float()

    def forward(self, batch):
        return {**batch, "action": batch["action"] - self.mean} if "action" in batch else dict(batch)

    def inverse(self, actions_BHA, batch):
        return actions_BHA + self.mean

    def state(self):
        return {"mean": self.mean}

    def load_state(self, tensors):
        self.mean = tensors["mean"]


@pytest.fixture
def centred():
    PROCESSORS["test_centred"] = Centred
    yield StepChoice(name="test_centred")
    del PROCESSORS["test_centred"]


def test_a_step_of_ones_own_is_fitted_on_what_the_steps_before_it_make_and_its_state_is_saved(centred):
    raw = raw_batch(200)
    processors = built(RELATIVE, centred, raw=raw, action="identity")
    relative = identity(RELATIVE).batch(raw)["action"]
    torch.testing.assert_close(processors.steps[1].mean, relative.flatten(0, 1).mean(dim=0), atol=1e-5, rtol=0)
    again = Processors.from_dict(processors.to_dict(), processors.tensors())
    back = again.actions(again.batch(raw)["action"], raw)
    np.testing.assert_allclose(matrices(back.numpy()), matrices(raw["action"]), atol=1e-5)
    broken = {**processors.tensors(), "step/1/mean": torch.full((8,), torch.nan)}
    with pytest.raises(CheckpointError, match="'step/1/mean' holds numbers that are not finite"):
        Processors.from_dict(processors.to_dict(), broken)


def test_normalise_may_stand_before_other_steps(centred):
    processors = built(StepChoice(name="normalise"), centred)
    assert [step.name for step in processors.steps] == ["normalise", "test_centred"]
    raw = raw_batch()
    np.testing.assert_allclose(processors.actions(processors.batch(raw)["action"], raw), raw["action"], atol=1e-6)


def test_a_checkpoint_without_a_list_of_steps_has_those_that_every_policy_has():
    old = load_checkpoint(Path(__file__).parents[2] / "models/metaworld_push_bc").processors
    assert [step.name for step in old.steps] == ["normalise"]
    content = old.to_dict()
    del content["steps"]
    assert Processors.from_dict(content, old.tensors()).to_dict() == old.to_dict()


def test_predictions_cannot_be_turned_back_without_the_observation():
    with pytest.raises(ValueError, match=r"the observation is needed .*observation\.tool"):
        identity(RELATIVE).actions(torch.zeros(1, 3, 8))


def test_a_measured_rotation_that_is_none_is_refused():
    raw = raw_batch()
    raw[TOOL][2, -1, 3:] = 0.0
    processors = identity(RELATIVE)
    with pytest.raises(ObservationError, match=r"'observation.tool' \(tool_qx, .*is no rotation as quaternion"):
        processors.actions(torch.zeros(6, 3, 8), raw)


def test_a_policy_that_trains_on_every_frame_cannot_have_relative_actions():
    raw = {**raw_batch(), "past_action": raw_batch()["action"][:, :1]}
    with pytest.raises(ConfigError, match="trains on every frame of a window, but actions are relative to"):
        identity(RELATIVE).batch(raw)


def changed(choice: StepChoice, **options: Any) -> StepChoice:
    return StepChoice(name=choice.name, options={**choice.options, **options})


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (
            [changed(SIX, rotation=["qx", "qy", "qz"])],
            r"processors\[0\] rotation_form.*a quaternion has 4 numbers, got",
        ),
        ([changed(SIX, rotation=["qx", "qy", "qz", "w"])], "'w' is not one of x, y, z, qx"),
        ([changed(SIX, rotation=["qx", "qz", "qy", "qw"])], "do not stand one after the other"),
        ([changed(SIX, target="quaternion")], "target: 'quaternion' is the form that it has already"),
        ([changed(SIX, key="observation.image")], r"'observation.image' is no vector .*observation.tool, action"),
        ([SIX, SIX], r"processors\[1\] rotation_form: rotation: 'qx' is not one of"),
        ([SIX, RELATIVE], r"processors\[1\] relative_actions: action.rotation: 'qx' is not one of"),
        ([changed(RELATIVE, key="observation.state")], "'observation.state' is no vector that the policy sees"),
        ([changed(RELATIVE, measured={"position": list(MEASURED[:3])})], "the measured one is needed too"),
        ([changed(RELATIVE, measure={})], "measure is not a field here; .*Did you mean 'measured'"),
        ([StepChoice(name="normalise"), SIX], r"processors\[1\] rotation_form: works on .* put it before 'normalise'"),
        ([StepChoice(name="normalise"), RELATIVE], "put it before 'normalise'"),
        ([StepChoice(name="text")], r"processors\[0\] text: comes from the policy's option 'text'"),
        ([StepChoice(name="resize")], "needs normalisation.image_size"),
        ([StepChoice(name="normalise")] * 2, "stands there twice"),
        ([StepChoice(name="normalise", options={"action": "min_max"})], "its options are those of 'normalisation'"),
    ],
)
def test_wrong_steps_are_refused_in_one_sentence_that_says_where(steps, sentence):
    with pytest.raises(ConfigError, match=sentence):
        built(*steps)


def test_an_unknown_step_is_named_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'relative_action' is not one of .*Did you mean 'relative_actions'"):
        StepChoice(name="relative_action")


def test_without_windows_what_a_step_changes_cannot_be_normalised():
    statistics = {"action": {"min": -np.ones(8), "max": np.ones(8)}, TOOL: {"mean": np.zeros(7), "std": np.ones(7)}}
    with pytest.raises(ConfigError, match="'rotation_form' changes action, whose statistics must be measured"):
        Processors(INPUTS, ACTION, ProcessorOptions(), statistics, steps=[SIX])


def test_statistics_of_parts_are_those_of_the_whole():
    rows = np.random.default_rng(0).normal([1e4, 0.0], [1.0, 3.0], (999, 2))
    rows[17, 1] = np.nan
    summary = RowSummary()
    for part in np.array_split(rows, 7):
        summary.add(part)
    got, whole = summary.statistics(), rows[~np.isnan(rows).any(axis=1)]
    for name, value in statistics_of(whole).items():
        np.testing.assert_allclose(got[name], value, rtol=1e-12, err_msg=name)
