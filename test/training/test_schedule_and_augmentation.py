import numpy as np
import pytest
import torch

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError
from vla_ros.processors import ProcessorOptions, Processors
from vla_ros.training.augmentation import augment, drop_vectors, jitter, random_shift
from vla_ros.training.optimisation import build_optimiser, flushed_denormals
from vla_ros.training.recipe import AugmentationOptions, OptimiserOptions, ScheduleOptions
from vla_ros.training.schedule import Schedule
from vla_ros.training.weight_average import WeightAverage


def shares(total: int, **options) -> list[float]:
    schedule = Schedule(ScheduleOptions(**options), total)
    return [schedule.share(step) for step in range(total)]


def test_one_cycle_rises_then_falls_to_nothing():
    course = shares(100, name="one_cycle")
    assert course[0] < 0.06
    assert max(course) == pytest.approx(1.0)
    assert 28 <= int(np.argmax(course)) <= 31
    assert course[-1] == pytest.approx(0.0, abs=1e-6)
    assert course[:30] == sorted(course[:30])
    assert course[30:] == sorted(course[30:], reverse=True)


def test_cosine_warms_up_linearly_and_ends_where_told():
    course = shares(100, name="cosine", warmup_share=0.1, final_share=0.2)
    assert course[:3] == pytest.approx([0.1, 0.2, 0.3])
    assert course[-1] == pytest.approx(0.2)


def test_constant_stays():
    assert shares(5) == [1.0] * 5


@pytest.mark.parametrize("name", ["one_cycle", "cosine", "constant", "plateau"])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_shortest_runs_have_a_course(name, total):
    assert all(0.0 <= share <= 1.0 for share in shares(total, name=name, warmup_share=0.5))


def test_plateau_halves_after_patience_and_survives_its_state():
    schedule = Schedule(ScheduleOptions(name="plateau", patience=2), 100)
    for loss in (1.0, 0.995, 0.994, 0.993):  # less than 1 % better each
        schedule.validated(loss)
    assert schedule.share(50) == 0.5
    again = Schedule(ScheduleOptions(name="plateau", patience=2), 100)
    again.load_state_dict(schedule.state_dict())
    assert again.share(50) == 0.5
    again.validated(0.5)
    assert again.share(50) == 0.5


def images(size: int = 4, frames: int = 2) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (size, frames, 12, 10, 3), dtype=np.uint8)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_shift_moves_content_and_repeats_the_edge():
    before = images(64)
    after = random_shift(before, 3, seeded())
    padded = np.pad(before, ((0, 0), (0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    offsets = set()
    for window, moved in zip(padded, after, strict=True):
        found = [(t, s) for t in range(7) for s in range(7) if (window[:, t : t + 12, s : s + 10] == moved).all()]
        assert len(found) == 1  # one offset for all frames of the window
        offsets.update(found)
    assert len(offsets) > 20


def test_jitter_stays_in_bytes_and_changes_frames_of_a_window_alike():
    flat = np.full((3, 2, 4, 4, 3), 250, np.uint8)
    after = jitter(flat, 0.5, 0.5, seeded())
    assert after.dtype == np.uint8
    for window in after:
        assert (window == window[0, 0, 0]).all()
    assert len({int(window[0, 0, 0, 0]) for window in after}) > 1


STATE, IMAGE = (
    FeatureSpec("state", "vector", (3,), "float32", ("x", "y", "z")),
    FeatureSpec("image", "image", (12, 10, 3), "uint8", ()),
)


def processors() -> Processors:
    statistics = {"mean": [1.0, 2.0, 3.0], "std": [1.0, 0.5, 2.0], "min": [0.0] * 3, "max": [9.0] * 3}
    action = FeatureSpec("action", "action", (3,), "float32", ("dx", "dy", "dz"))
    options = ProcessorOptions(images="identity", vectors="mean_std", action="min_max")
    return Processors({"image": IMAGE, "state": STATE}, action, options, {"state": statistics, "action": statistics})


def raw_batch(size: int = 4) -> dict[str, np.ndarray]:
    state = np.random.default_rng(1).normal(size=(size, 2, 3)).astype(np.float32)
    return {"image": images(size), "state": state, "action": np.ones((size, 4, 3), np.float32)}


def test_augmentation_leaves_its_input_and_other_keys_alone():
    raw = raw_batch()
    copies = {key: values.copy() for key, values in raw.items()}
    options = AugmentationOptions(random_shift=2, brightness=0.2, contrast=0.2, vector_dropout=0.5)
    changed = augment(raw, processors(), options, seeded())
    assert all((raw[key] == copy).all() for key, copy in copies.items())
    assert changed["action"] is raw["action"]
    assert not (changed["image"] == copies["image"]).all()


def test_equal_generators_augment_equally():
    options = AugmentationOptions(random_shift=2, brightness=0.2, vector_dropout=0.5)
    first, second = (augment(raw_batch(), processors(), options, seeded(3)) for _ in range(2))
    assert all((first[key] == second[key]).all() for key in first)


def test_dropped_vectors_are_nothing_to_the_policy_and_the_others_stay():
    raw, normalise = raw_batch(1000), processors()
    changed = augment(raw, normalise, AugmentationOptions(vector_dropout=0.25), seeded())
    assert changed["state"].dtype == np.float32
    assert (changed["image"] == raw["image"]).all()
    seen = normalise.observation(changed)["state"]
    dropped = (seen == 0).flatten(1).all(dim=1).numpy()  # the mean, normalised; whole windows, never one frame
    assert 0.2 < dropped.mean() < 0.3  # binomial: 0.25 with a standard deviation of 0.014
    assert (changed["state"][~dropped] == raw["state"][~dropped]).all()


def test_all_vectors_of_a_window_are_dropped_together():
    raw = {"a": np.ones((200, 2, 3), np.float32), "b": np.ones((200, 2, 5), np.float32)}
    changed = drop_vectors(raw, {"a": np.zeros(3), "b": np.zeros(5)}, 0.5, seeded())
    assert ((changed["a"][:, 0, 0] == 0) == (changed["b"][:, 1, 4] == 0)).all()
    assert {0.0, 1.0} == set(np.unique(changed["a"]))


def test_a_policy_that_never_sees_vectors_is_refused():
    with pytest.raises(ConfigError, match="vector_dropout=1 must be at least 0 and below 1"):
        AugmentationOptions(vector_dropout=1.0)


def test_adamw_decays_matrices_only():
    layer = torch.nn.Linear(3, 2)
    groups = build_optimiser(layer, OptimiserOptions(weight_decay=0.5)).param_groups
    assert [(g["params"][0].ndim, g["weight_decay"]) for g in groups] == [(2, 0.5), (1, 0.0)]


def test_average_of_weights_leaves_batch_norms_buffers_alone():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = WeightAverage(model, 0.9)
    assert set(average.values) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1.0)
        model[1].running_mean.add_(5.0)
    average.update(model)
    with average.applied(model):
        torch.testing.assert_close(model[0].weight.detach(), start + 0.1)
        assert model[1].running_mean.tolist() == [5.0, 5.0]
    torch.testing.assert_close(model[0].weight.detach(), start + 1.0)


def test_denormals_are_zero_in_training_and_nowhere_else():
    tiny = torch.full((4,), 1e-40)
    with flushed_denormals():
        assert (tiny * 1.0 == 0).all()
    assert (tiny * 1.0 > 0).all()
    with pytest.raises(KeyboardInterrupt), flushed_denormals():
        raise KeyboardInterrupt
    assert (tiny * 1.0 > 0).all()
