"""Windows are read when they are asked for: equal to whole episodes, in memory that does not grow with the dataset."""

import gc
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import DatasetWriter, EpisodeDataset, WindowSampler, frame_store
from vla_ros.datasets.frame_cache import FrameCache
from vla_ros.datasets.video_access import VideoPool

CAMERA, STATE, CLOUD = "observation.images.front", "observation.state", "observation.points.lidar"
SIDE = 48


def write(root: Path, lengths: tuple[int, ...], storage: str, points: int = 0) -> EpisodeDataset:
    features = {
        CAMERA: FeatureSpec(CAMERA, "image", (SIDE, SIDE, 3), "uint8", ("height", "width", "channels")),
        STATE: FeatureSpec(STATE, "vector", (2,), "float32", ("x", "y")),
        "action": FeatureSpec("action", "action", (2,), "float32", ("a", "b")),
    }
    if points:
        features[CLOUD] = FeatureSpec(CLOUD, "points", (points, 3), "float32", ("x", "y", "z"))
    rng = np.random.default_rng(3)
    with DatasetWriter(root, features, 10, "rig", image_storage=storage) as writer:
        for episode, length in enumerate(lengths):
            frames = []
            for k in range(length):
                image = np.full((SIDE, SIDE, 3), (40 * episode + 5 * k) % 256, np.uint8)
                image[k % SIDE] = 255 - image[0]
                frame = {CAMERA: image, STATE: rng.normal(size=2).astype(np.float32)}
                frame["action"] = rng.normal(size=2).astype(np.float32)
                if points:
                    frame[CLOUD] = rng.normal(size=(points, 3)).astype(np.float32)
                frames.append(frame)
            writer.add_episode(frames, f"task {episode}")
    return EpisodeDataset(root)


@pytest.fixture(scope="module", params=["video", "png"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return write(tmp_path_factory.mktemp(request.param) / "dataset", (13, 7, 21), request.param, points=5)


def expected(dataset: EpisodeDataset, episodes: list[int], indices: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Gather windows from whole episodes, one frame at a time."""
    values = [dataset.episode(index).values for index in episodes]
    places = [(e, k) for e, own in enumerate(values) for k in range(len(own["action"]))]
    chosen = [places[i] for i in indices]
    return {
        key: np.stack([[values[e][key][max(0, k - steps + 1 + t)] for t in range(steps)] for e, k in chosen])
        for key in (CAMERA, STATE, CLOUD)
    }


@pytest.mark.parametrize("cache_bytes", [0, 10 * SIDE * SIDE * 3, 10**9], ids=["no_cache", "part_fits", "all_fits"])
def test_windows_are_the_frames_of_their_episodes_whatever_is_cached(
    dataset: EpisodeDataset, cache_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_store, "IN_MEMORY_BYTES", 500)  # the cloud's column is larger, the others are not
    episodes, indices = [2, 0, 1], np.random.default_rng(0).permutation(41)
    windows = WindowSampler(dataset, episodes, [CAMERA, STATE, CLOUD], 3, 2, cache_bytes=cache_bytes)
    whole = expected(dataset, episodes, indices, 3)
    for _ in range(2):  # read from the files, then from the cache
        for first in range(0, len(indices), 8):
            batch = windows.batch(indices[first : first + 8])
            for key, values in whole.items():
                np.testing.assert_array_equal(batch[key], values[first : first + 8])


def test_threads_read_what_one_reads(dataset: EpisodeDataset) -> None:
    episodes = [0, 1, 2]
    windows = WindowSampler(dataset, episodes, [CAMERA], 2, 1, cache_bytes=20 * SIDE * SIDE * 3)
    alone = WindowSampler(dataset, episodes, [CAMERA], 2, 1, cache_bytes=0).batch(np.arange(41))[CAMERA]
    failures: list[Any] = []

    def read(seed: int) -> None:
        order = np.random.default_rng(seed).permutation(41)
        for first in range(0, 41, 5):
            own = order[first : first + 5]
            if not np.array_equal(windows.batch(own)[CAMERA], alone[own]):
                failures.append((seed, first))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def peak_of_an_epoch(dataset: EpisodeDataset, folder: Path, limit: int) -> int:
    """Return the most memory that Python and numpy held while windows were built and read, in bytes."""
    gc.collect()
    tracemalloc.start()
    windows = WindowSampler(
        dataset, range(dataset.n_episodes), [CAMERA, STATE], 1, 4, cache_folder=folder, cache_bytes=limit
    )
    for epoch in range(3):
        windows.batch(windows.order(np.random.default_rng(epoch))[:160])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    windows.close()
    return peak


@pytest.mark.parametrize("limit", [0, 10**9], ids=["no_cache", "cache"])
def test_ten_times_the_frames_take_the_same_memory(tmp_path: Path, limit: int) -> None:
    short = write(tmp_path / "short", (50,) * 4, "video")
    long = write(tmp_path / "long", (50,) * 40, "video")
    peak_of_an_epoch(short, tmp_path / "cache", limit)  # what is imported and made once
    # the lesser of two: other threads of this process may allocate too
    few, many = (
        min(peak_of_an_epoch(dataset, tmp_path / "cache", limit) for _ in range(2)) for dataset in (short, long)
    )
    assert many <= 1.1 * few
    assert few < 4 * 160 * SIDE * SIDE * 3  # of the order of a batch, not of the dataset


def test_a_frame_of_several_windows_is_decoded_once(dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    original = frame_store.FrameStore._chunks

    def chunks(self: Any, key: str, group: int, numbers: Any) -> Any:
        asked.extend(numbers)
        return original(self, key, group, numbers)

    monkeypatch.setattr(frame_store.FrameStore, "_chunks", chunks)
    windows = WindowSampler(dataset, [2], [CAMERA], 4, 1, cache_bytes=0)
    windows.batch(np.array([5, 6, 7, 6]))
    assert sorted(asked) == [2, 3, 4, 5, 6, 7]


def test_the_cache_has_no_name_and_stays_within_its_limit(dataset: EpisodeDataset, tmp_path: Path) -> None:
    limit = 15 * SIDE * SIDE * 3
    windows = WindowSampler(dataset, [0, 1, 2], [CAMERA], 1, 1, cache_folder=tmp_path / "run", cache_bytes=limit)
    assert not (tmp_path / "run").exists()  # before anything is read there is nothing to keep
    windows.batch(np.arange(41))
    assert list((tmp_path / "run").iterdir()) == []
    cache = windows._store._cache
    assert cache is not None
    assert cache._file is not None
    assert 0 < cache._file.seek(0, 2) <= limit
    windows.close()


def test_a_full_disk_ends_the_caching_and_not_the_reading(
    dataset: EpisodeDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    whole = WindowSampler(dataset, [0, 1], [CAMERA], 1, 1, cache_bytes=0).batch(np.arange(20))[CAMERA]
    monkeypatch.setattr("vla_ros.datasets.frame_cache.os.pwrite", full)
    windows = WindowSampler(dataset, [0, 1], [CAMERA], 1, 1)
    np.testing.assert_array_equal(windows.batch(np.arange(20))[CAMERA], whole)


def test_groups_that_do_not_fit_have_no_space() -> None:
    cache = FrameCache(None, 1000)
    assert cache.allot([3, 4, 5], 100).groups == 2
    assert cache.allot([3, 4], 100).groups == 1
    assert cache.allot([1], 100).groups == 0


def test_open_videos_are_few(dataset: EpisodeDataset) -> None:
    if not dataset.is_video(CAMERA):
        pytest.skip("images lie in the tables")
    path, start_s = dataset.video_of(1, CAMERA)
    pool = VideoPool(dataset.fps, limit=1)
    whole = dataset.episode(1, [CAMERA]).values[CAMERA]
    with pool.reader(path, (SIDE, SIDE, 3)) as first, pool.reader(path, (SIDE, SIDE, 3)) as second:
        assert first is not second
        np.testing.assert_array_equal(second.read(start_s, [4, 6]), whole[[4, 6]])
    with pool.reader(path, (SIDE, SIDE, 3)) as again:
        assert again in (first, second)
    assert len(pool._idle) == 1


def test_a_missing_video_is_named_before_training_begins(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset", (4,), "video")
    path = dataset.video_of(0, CAMERA)[0]
    path.unlink()
    with pytest.raises(DatasetError, match="no such video file; the dataset is incomplete"):
        WindowSampler(dataset, [0], [CAMERA], 1, 1)


def test_a_damaged_video_is_named_when_a_window_needs_it(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset", (30,), "video")
    path = dataset.video_of(0, CAMERA)[0]
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 3])
    with pytest.raises(DatasetError, match=rf"{path}: (not readable as video|has no frame|ends before)"):
        WindowSampler(dataset, [0], [CAMERA], 1, 1).batch(np.arange(30))
