"""A dataset of v2.1, written here by hand as LeRobot wrote them, becomes one of v3.0 with the same content."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from example_datasets import CAMERA, FPS, STATE, frame

from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.upgrade import DATA_PATH, VIDEO_PATH, upgrade
from vla_ros.datasets import compute_statistics, verify_dataset
from vla_ros.datasets.images import VideoEncoder, read_frames

LENGTHS = (12, 9)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("old") / "dataset"
    (root / "meta").mkdir(parents=True)
    first, episodes, stats = 0, [], []
    for episode, length in enumerate(LENGTHS):
        frames = [frame(episode, k) for k in range(length)]
        place = {"episode_chunk": 0, "episode_index": episode}
        numbers = {key: np.stack([own[key] for own in frames]) for key in (STATE, "action")}
        columns = {key: pa.array(values.tolist(), pa.list_(pa.float32())) for key, values in numbers.items()}
        index = np.arange(length)
        columns |= {
            "timestamp": pa.array((index / FPS).astype(np.float32)),
            "frame_index": pa.array(index),
            "episode_index": pa.array(np.full(length, episode)),
            "index": pa.array(index + first),
            "task_index": pa.array(np.full(length, episode)),
        }
        path = root / DATA_PATH.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), path)
        video = root / VIDEO_PATH.format(**place, video_key=CAMERA)
        video.parent.mkdir(parents=True, exist_ok=True)
        encoder = VideoEncoder(video, (32, 48), FPS, "h264")
        for own in frames:
            encoder.add(own[CAMERA])
        encoder.close()
        episodes.append({"episode_index": episode, "tasks": [f"task {episode}"], "length": length})
        own_stats = compute_statistics(numbers, {})
        stats.append(
            {
                "episode_index": episode,
                "stats": {
                    key: {name: own[name].tolist() for name in ("min", "max", "mean", "std", "count")}
                    for key, own in own_stats.items()
                },
            }
        )
        first += length
    lines = {
        "episodes": episodes,
        "episodes_stats": stats,
        "tasks": [{"task_index": n, "task": f"task {n}"} for n in range(2)],
    }
    for name, rows in lines.items():
        (root / f"meta/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    vector = {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}}
    info = {
        "codebase_version": "v2.1",
        "robot_type": "so100",
        "total_episodes": 2,
        "total_frames": sum(LENGTHS),
        "total_tasks": 2,
        "total_videos": 2,
        "total_chunks": 1,
        "chunks_size": 1000,
        "fps": FPS,
        "splits": {"train": "0:2"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": {
            CAMERA: {
                "dtype": "video",
                "shape": [32, 48, 3],
                "names": ["height", "width", "channel"],
                "video_info": {"video.fps": 10.0, "video.codec": "h264"},
            },
            STATE: vector,
            "action": vector,
            **{key: {"dtype": "int64", "shape": [1], "names": None} for key in ("index", "frame_index")},
        },
    }
    (root / "meta/info.json").write_text(json.dumps(info))
    return root


@pytest.fixture
def old(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "old"))


def test_rows_frames_and_tasks_are_the_same(old: Path, tmp_path: Path) -> None:
    upgrade(old, tmp_path / "new")
    new = verify_dataset(tmp_path / "new")
    assert (new.lengths, new.tasks, new.fps, new.robot_type) == (LENGTHS, ["task 0", "task 1"], FPS, "so100")
    assert new.features[STATE].names == ("a", "b")
    for episode, length in enumerate(LENGTHS):
        values = new.episode(episode).values
        expected = np.stack([frame(episode, k)["action"] for k in range(length)])
        np.testing.assert_array_equal(values["action"], expected)
        path = old / VIDEO_PATH.format(episode_chunk=0, episode_index=episode, video_key=CAMERA)
        np.testing.assert_array_equal(values[CAMERA], read_frames(path, 0.0, length, FPS, (32, 48, 3)))


def test_statistics_that_the_old_format_has_not_are_computed(old: Path, tmp_path: Path) -> None:
    upgrade(old, tmp_path / "new")
    new = verify_dataset(tmp_path / "new")
    rows = np.concatenate([new.episode(index).values["action"] for index in range(2)])
    np.testing.assert_allclose(new.stats["action"]["q90"], np.quantile(rows, 0.9, axis=0), atol=1e-6)
    assert new.stats[CAMERA]["q50"].shape == (3, 1, 1)


def test_in_place_the_old_one_is_kept(old: Path) -> None:
    upgrade(old)
    verify_dataset(old)
    assert (old.with_name("old_old") / "meta/episodes.jsonl").is_file()


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("meta/episodes.jsonl", '{"episode_index": 1, "tasks": ["t"], "length": 3}\n', "expected episode 0"),
        ("meta/episodes.jsonl", "[1]\n", "every line must be an object"),
        ("meta/episodes.jsonl", "{", "not readable as JSON lines"),
        ("meta/tasks.jsonl", '{"task_index": 0, "task": "task 0"}\n', "task_index 1 is not in"),
        ("meta/tasks.jsonl", '{"task_index": 0}\n', "must have task_index and task"),
        ("data/chunk-000/episode_000001.parquet", "x", "not readable as parquet"),
        (f"videos/chunk-000/{CAMERA}/episode_000001.mp4", "x", "not readable as video"),
    ],
)
def test_a_malformed_old_dataset_is_refused(old: Path, tmp_path: Path, file: str, text: str, sentence: str) -> None:
    (old / file).write_text(text)
    with pytest.raises(DatasetError, match=sentence):
        upgrade(old, tmp_path / "new")
    assert not (tmp_path / "new").exists()
