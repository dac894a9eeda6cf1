"""Windows stay within their episode and say where they were padded; episodes are split whole."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import DatasetWriter, EpisodeDataset, WindowSampler, split_episodes

CAMERA, STATE = "observation.images.front", "observation.state"
FEATURES = {
    CAMERA: FeatureSpec(CAMERA, "image", (16, 16, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (1,), "float32", ("x",)),
    "action": FeatureSpec("action", "action", (2,), "float32", ("a", "b")),
}
LENGTHS = (5, 3, 4)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    """Every number of episode e, frame k is 100 e + k."""
    root = tmp_path_factory.mktemp("windows") / "dataset"
    with DatasetWriter(root, FEATURES, 10, "rig", image_storage="png") as writer:
        for episode, length in enumerate(LENGTHS):
            numbers = [100 * episode + k for k in range(length)]
            writer.add_episode(
                (
                    {
                        CAMERA: np.full((16, 16, 3), n % 256, np.uint8),
                        STATE: np.full(1, n, np.float32),
                        "action": np.full(2, n, np.float32),
                    }
                    for n in numbers
                ),
                f"task {episode}",
            )
    return EpisodeDataset(root)


def sampler(dataset: EpisodeDataset, **options: Any) -> WindowSampler:
    return WindowSampler(dataset, [0, 2], [CAMERA, STATE], n_obs_steps=3, action_horizon=4, **options)


def test_first_frame_is_repeated_before_the_begin(dataset: EpisodeDataset) -> None:
    windows = sampler(dataset)
    assert len(windows) == 9
    item = windows.item(5)  # first frame of episode 2, right after the last one of episode 0
    np.testing.assert_array_equal(item[STATE][:, 0], [200, 200, 200])
    np.testing.assert_array_equal(item["is_pad"], [True, True, False])
    np.testing.assert_array_equal(item["action"][:, 0], [200, 201, 202, 203])
    assert not item["action_is_pad"].any()
    assert item["task"] == "task 2"


def test_last_action_is_repeated_after_the_end(dataset: EpisodeDataset) -> None:
    item = sampler(dataset).item(3)
    np.testing.assert_array_equal(item[STATE][:, 0], [1, 2, 3])
    np.testing.assert_array_equal(item["action"][:, 1], [3, 4, 4, 4])
    np.testing.assert_array_equal(item["action_is_pad"], [False, False, True, True])
    assert item["action"].dtype == np.float32
    assert item[CAMERA].shape == (3, 16, 16, 3)
    np.testing.assert_array_equal(item[CAMERA][:, 0, 0, 0], [1, 2, 3])


def test_a_batch_is_its_items_stacked(dataset: EpisodeDataset, tmp_path: Path) -> None:
    windows, indices = sampler(dataset), np.array([8, 0, 4, 4])
    mapped = sampler(dataset, cache_folder=tmp_path / "cache")
    batch = windows.batch(indices)
    for b, i in enumerate(indices):
        for other in (windows, mapped):
            for key, value in other.item(int(i)).items():
                np.testing.assert_array_equal(batch[key][b], value)


def test_keys_and_episodes_that_do_not_exist_are_named(dataset: EpisodeDataset) -> None:
    with pytest.raises(DatasetError, match=r"Did you mean 'observation\.images\.front'"):
        WindowSampler(dataset, [0], ["observation.images.fron"], 1, 1)
    with pytest.raises(DatasetError, match="has no episode 3"):
        WindowSampler(dataset, [3], [STATE], 1, 1)
    with pytest.raises(DatasetError, match="no episodes chosen"):
        WindowSampler(dataset, [], [STATE], 1, 1)


def test_split_is_by_episode_disjoint_and_repeatable() -> None:
    train, validation = split_episodes(20, 0.1, seed=4)
    assert len(validation) == 2
    assert sorted(train + validation) == list(range(20))
    assert split_episodes(20, 0.1, seed=4) == (train, validation)
    assert split_episodes(20, 0.1, seed=5)[1] != validation
    assert split_episodes(3, 0.0, seed=0) == ((0, 1, 2), ())
    assert len(split_episodes(3, 0.01, seed=0)[1]) == 1
    with pytest.raises(DatasetError, match="cannot be split"):
        split_episodes(1, 0.1, seed=0)


def test_older_frames_come_with_their_actions_where_asked_for(dataset: EpisodeDataset) -> None:
    windows = sampler(dataset, past_action=True)
    np.testing.assert_array_equal(windows.item(3)["past_action"][:, 0], [1, 2])
    np.testing.assert_array_equal(windows.item(5)["past_action"][:, 0], [200, 200])
    assert windows.item(5)["past_action"].dtype == np.float32
    assert "past_action" not in sampler(dataset).item(3)


@pytest.mark.parametrize("keys", [[CAMERA, STATE], [STATE]], ids=["seen", "only_as_goal"])
def test_the_goal_is_the_last_frame_of_the_windows_own_episode(dataset: EpisodeDataset, keys: list[str]) -> None:
    windows = WindowSampler(dataset, [0, 2], keys, n_obs_steps=3, action_horizon=4, goal_camera=CAMERA)
    goals = windows.batch(np.arange(9))["goal.image"]
    assert goals.shape == (9, 3, 16, 16, 3)
    assert goals.dtype == np.uint8
    np.testing.assert_array_equal(goals[:, :, 0, 0, 0], np.repeat([[4] * 5 + [203] * 4], 3, axis=0).T)
    assert (CAMERA in windows.item(0)) == (CAMERA in keys)


def test_a_goal_of_no_camera_is_named(dataset: EpisodeDataset) -> None:
    with pytest.raises(DatasetError, match=r"observation\.images\.frnt"):
        sampler(dataset, goal_camera="observation.images.frnt")
