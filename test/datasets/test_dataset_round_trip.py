"""What is written is what the format says and what is read back: schemas, times, values, files, faults."""

import json
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import STATISTICS, DatasetWriter, EpisodeDataset, compute_statistics, verify_dataset
from vla_ros.datasets.images import VideoEncoder, frame_times

CAMERA, STATE, ONE, LIDAR, IMU = (
    "observation.images.front",
    "observation.state",
    "observation.gripper",
    "observation.points.lidar",
    "observation.imu.wrist",
)
FEATURES = {
    CAMERA: FeatureSpec(CAMERA, "image", (32, 48, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (3,), "float32", ("x", "y", "z")),
    ONE: FeatureSpec(ONE, "vector", (1,), "float32", ("opening",)),
    LIDAR: FeatureSpec(LIDAR, "points", (5, 3), "float32", ("x", "y", "z")),
    IMU: FeatureSpec(IMU, "window", (4, 2), "float32", ("gyro", "accel")),
    "action": FeatureSpec("action", "action", (2,), "float32", ("dx", "dy")),
}
INDEX = ["timestamp", "frame_index", "episode_index", "index", "task_index"]


def frames(length: int, seed: int = 0) -> list[dict[str, np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(seed)
    result = []
    for k in range(length):
        rows, columns = np.mgrid[:32, :48]
        image = np.stack([rows * 4 + k, columns * 3, np.full((32, 48), 5 * k)], -1).astype(np.uint8)
        points = rng.normal(size=(5, 3)).astype(np.float32)
        points[k % 5 + 1 :] = np.nan
        frame = {key: rng.normal(size=spec.shape).astype(np.float32) for key, spec in FEATURES.items()}
        result.append({**frame, CAMERA: image, LIDAR: points})
    return result


EPISODES = [(frames(12, 1), "push"), (frames(7, 2), "pull"), (frames(9, 3), "push")]


def write(root: Path, storage: str = "png", **options: Any) -> EpisodeDataset:
    with DatasetWriter(root, FEATURES, 20, "rig", image_storage=storage, **options) as writer:  # type: ignore[arg-type]
        for episode, task in EPISODES:
            writer.add_episode(episode, task)
    return EpisodeDataset(root)


@pytest.fixture(scope="module")
def png(tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return write(tmp_path_factory.mktemp("png") / "dataset")


@pytest.fixture(scope="module", params=["av1", "h264"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> EpisodeDataset:
    return write(tmp_path_factory.mktemp("video") / "dataset", "video", codec=request.param)


def files(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_files_are_those_of_the_format(png: EpisodeDataset, video: EpisodeDataset) -> None:
    tables = [
        "data/chunk-000/file-000.parquet",
        "meta/episodes/chunk-000/file-000.parquet",
        "meta/info.json",
        "meta/stats.json",
        "meta/tasks.parquet",
    ]
    assert files(png.root) == tables
    assert files(video.root) == [*tables, f"videos/{CAMERA}/chunk-000/file-000.mp4"]


def test_info_has_the_fields_of_the_format(png: EpisodeDataset, video: EpisodeDataset) -> None:
    info = json.loads((video.root / "meta/info.json").read_text())
    features = info.pop("features")
    assert info == {
        "codebase_version": "v3.0",
        "robot_type": "rig",
        "total_episodes": 3,
        "total_frames": 28,
        "total_tasks": 2,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": 20,
        "splits": {"train": "0:3"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }
    assert list(features) == [*FEATURES, *INDEX]
    assert features[STATE] == {"dtype": "float32", "shape": [3], "names": ["x", "y", "z"]}
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}
    assert features["index"] == {"dtype": "int64", "shape": [1], "names": None}
    assert features[LIDAR]["shape"] == [15]
    assert features[LIDAR]["info"] == {"kind": "points", "layout": [5, 3], "fields": ["x", "y", "z"]}
    assert features[CAMERA]["dtype"] == "video"
    assert features[CAMERA]["shape"] == [32, 48, 3]
    assert features[CAMERA]["names"] == ["height", "width", "channels"]
    assert features[CAMERA]["info"]["video.fps"] == 20
    assert png.info["video_path"] is None
    assert png.info["features"][CAMERA]["dtype"] == "image"


def test_data_columns_have_the_types_of_the_format(png: EpisodeDataset, video: EpisodeDataset) -> None:
    def listed(n: int) -> Any:
        return pa.list_(pa.float32(), n)

    numbers = {STATE: listed(3), ONE: pa.float32(), LIDAR: listed(15), IMU: listed(8), "action": listed(2)}
    index = {key: pa.float32() if key == "timestamp" else pa.int64() for key in INDEX}
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pq.read_schema(png.root / "data/chunk-000/file-000.parquet")
    assert dict(zip(schema.names, schema.types, strict=True)) == {CAMERA: image, **numbers, **index}
    parquet = pq.ParquetFile(video.root / "data/chunk-000/file-000.parquet")
    assert dict(zip(parquet.schema_arrow.names, parquet.schema_arrow.types, strict=True)) == {**numbers, **index}
    assert [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)] == [12, 7, 9]


def test_index_columns_count_as_the_format_says(png: EpisodeDataset) -> None:
    table = pq.read_table(png.root / "data/chunk-000/file-000.parquet")
    frame_index = np.concatenate([np.arange(12), np.arange(7), np.arange(9)])
    np.testing.assert_array_equal(table["frame_index"], frame_index)
    np.testing.assert_array_equal(table["timestamp"], (frame_index / 20).astype(np.float32))
    np.testing.assert_array_equal(table["index"], np.arange(28))
    np.testing.assert_array_equal(table["episode_index"], [0] * 12 + [1] * 7 + [2] * 9)
    np.testing.assert_array_equal(table["task_index"], [0] * 12 + [1] * 7 + [0] * 9)


def test_episode_table_has_the_columns_of_the_format(video: EpisodeDataset) -> None:
    table = pq.read_table(video.root / "meta/episodes/chunk-000/file-000.parquet")
    place = f"videos/{CAMERA}/"
    plain = [name for name in table.column_names if not name.startswith("stats/")]
    assert plain == [
        *("episode_index", "tasks", "length", "data/chunk_index", "data/file_index"),
        *("dataset_from_index", "dataset_to_index"),
        *(place + name for name in ("chunk_index", "file_index", "from_timestamp", "to_timestamp")),
        *("meta/episodes/chunk_index", "meta/episodes/file_index"),
    ]
    stats = {name for name in table.column_names if name.startswith("stats/")}
    assert stats == {f"stats/{key}/{name}" for key in [*FEATURES, *INDEX] for name in STATISTICS}
    assert table["tasks"].to_pylist() == [["push"], ["pull"], ["push"]]
    assert table["dataset_to_index"].to_pylist() == [12, 19, 28]
    assert table[place + "from_timestamp"].to_pylist() == [0.0, 12 / 20, 19 / 20]
    assert table[place + "to_timestamp"].to_pylist() == [12 / 20, 19 / 20, 28 / 20]
    assert table.schema.field(place + "from_timestamp").type == pa.float64()
    assert table.schema.field(f"stats/{STATE}/mean").type == pa.list_(pa.float64())
    assert table.schema.field(f"stats/{STATE}/count").type == pa.list_(pa.int64())
    assert table.schema.field(f"stats/{CAMERA}/q50").type == pa.list_(pa.list_(pa.list_(pa.float64())))
    assert table.schema.field("length").type == pa.int64()


def test_task_is_the_pandas_index_of_the_task_table(png: EpisodeDataset) -> None:
    schema = pq.read_schema(png.root / "meta/tasks.parquet")
    assert dict(zip(schema.names, schema.types, strict=True)) == {"task_index": pa.int64(), "task": pa.string()}
    description = json.loads(schema.metadata[b"pandas"])
    description["creator"].pop("version")
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    number = {"pandas_type": "int64", "numpy_type": "int64"}
    assert description == {  # as pandas 2.2 writes it
        "index_columns": ["task"],
        "column_indexes": [{"name": None, "field_name": None, **text, "metadata": {"encoding": "UTF-8"}}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", **number, "metadata": None},
            {"name": "task", "field_name": "task", **text, "metadata": None},
        ],
        "attributes": {},
        "creator": {"library": "pyarrow"},
        "pandas_version": "2.2.3",
    }


def test_statistics_equal_numpys(png: EpisodeDataset) -> None:
    every = [frame for episode, _ in EPISODES for frame in episode]
    stored = json.loads((png.root / "meta/stats.json").read_text())
    assert set(stored) == {*FEATURES, *INDEX}
    pixels = np.stack([frame[CAMERA] for frame in every]).reshape(-1, 3) / 255.0
    points = np.concatenate([frame[LIDAR] for frame in every]).astype(np.float64)
    points = points[~np.isnan(points[:, 0])]
    state = np.stack([frame[STATE] for frame in every]).astype(np.float64)
    for key, rows in ((CAMERA, pixels), (LIDAR, points), (STATE, state)):
        expected = {
            "min": rows.min(0),
            "max": rows.max(0),
            "mean": rows.mean(0),
            "std": rows.std(0),
            **{f"q{q:02d}": np.quantile(rows, q / 100, axis=0) for q in (1, 10, 50, 90, 99)},
        }
        for name, value in expected.items():
            np.testing.assert_allclose(png.stats[key][name].reshape(-1), value, atol=1e-7, err_msg=f"{key} {name}")
    assert np.shape(stored[CAMERA]["mean"]) == (3, 1, 1)
    assert np.shape(stored[LIDAR]["mean"]) == (15,)
    assert stored[STATE]["count"] == [28]
    assert png.stats[LIDAR]["count"][0] == len(points)


def test_statistics_of_some_episodes_combine_from_those_of_each(png: EpisodeDataset) -> None:
    chosen = png.statistics([0, 2])[STATE]
    rows = np.stack([frame[STATE] for e in (0, 2) for frame in EPISODES[e][0]]).astype(np.float64)
    np.testing.assert_allclose(chosen["mean"], rows.mean(0))
    np.testing.assert_allclose(chosen["std"], rows.std(0))
    np.testing.assert_array_equal(chosen["max"], rows.max(0))
    assert chosen["count"][0] == 21


def test_numbers_and_png_images_come_back_exactly(png: EpisodeDataset) -> None:
    assert png.features == FEATURES
    assert png.lengths == (12, 7, 9)
    for index, (episode, task) in enumerate(EPISODES):
        read = png.episode(index)
        assert read.task == task
        for key in FEATURES:
            written = np.stack([frame[key] for frame in episode])
            assert read.values[key].dtype == written.dtype
            np.testing.assert_array_equal(read.values[key], written, err_msg=key)


def test_video_comes_back_within_its_loss(video: EpisodeDataset) -> None:
    for index, (episode, _) in enumerate(EPISODES):
        written = np.stack([frame[CAMERA] for frame in episode]).astype(int)
        read = video.episode(index, [CAMERA]).values[CAMERA].astype(int)
        assert np.abs(read - written).mean() < 6.0
        levels = read[:, 8:24, 8:40, 2].mean((1, 2))  # the blue level counts frames, so a frame off by one shows
        np.testing.assert_allclose(levels, 5 * np.arange(len(episode)), atol=2.4)


def test_video_frame_k_is_shown_at_exactly_k_over_fps(video: EpisodeDataset) -> None:
    assert frame_times(video.video_files(0)[0]) == [Fraction(k, 20) for k in range(28)]


@pytest.mark.parametrize("fps", [7, 24, 30])
def test_video_times_do_not_drift_at_any_rate(tmp_path: Path, fps: int) -> None:
    with DatasetWriter(tmp_path / "dataset", FEATURES, fps, "rig", codec="h264") as writer:
        for seed in range(5):
            writer.add_episode(frames(11, seed), "push")
    dataset = verify_dataset(tmp_path / "dataset")
    assert frame_times(dataset.video_files(4)[0]) == [Fraction(k, fps) for k in range(55)]
    assert dataset.episode(4).values[CAMERA].shape == (11, 32, 48, 3)


@pytest.mark.parametrize("storage", ["png", "video"])
def test_files_roll_at_their_size(tmp_path: Path, storage: str) -> None:
    dataset = write(tmp_path / "dataset", storage, codec="h264", data_file_mb=0.001, video_file_mb=0.001)
    assert "data/chunk-000/file-002.parquet" in files(dataset.root)
    if storage == "video":
        assert f"videos/{CAMERA}/chunk-000/file-002.mp4" in files(dataset.root)
    verify_dataset(dataset.root)
    np.testing.assert_array_equal(dataset.episode(2).values[STATE], [frame[STATE] for frame in EPISODES[2][0]])


@pytest.mark.parametrize("storage", ["png", "video"])
def test_appending_adds_episodes_and_keeps_the_old(tmp_path: Path, storage: str) -> None:
    write(tmp_path / "dataset", storage, codec="h264")
    with DatasetWriter(
        tmp_path / "dataset",
        FEATURES,
        20,
        "rig",
        image_storage=storage,
        codec="h264",
        append=True,  # type: ignore[arg-type]
    ) as writer:
        assert writer.add_episode(frames(5, 9), "lift") == 3
    dataset = verify_dataset(tmp_path / "dataset")
    assert dataset.lengths == (12, 7, 9, 5)
    assert dataset.tasks == ["push", "pull", "lift"]
    for index, episode in ((1, EPISODES[1][0]), (3, frames(5, 9))):
        np.testing.assert_array_equal(dataset.episode(index).values["action"], [frame["action"] for frame in episode])
    assert dataset.stats["action"]["count"][0] == 33
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


def test_appending_other_features_is_refused(png: EpisodeDataset) -> None:
    fewer = {key: spec for key, spec in FEATURES.items() if key != ONE}
    with pytest.raises(DatasetError, match=r"cannot append, feature 'observation\.gripper' differs"):
        DatasetWriter(png.root, fewer, 20, "rig", image_storage="png", append=True)


def test_a_crash_leaves_nothing_that_looks_like_a_dataset(tmp_path: Path) -> None:
    def crash() -> None:
        with DatasetWriter(tmp_path / "dataset", FEATURES, 20, "rig", codec="h264") as writer:
            writer.add_episode(frames(3), "push")
            assert not (tmp_path / "dataset").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("storage", ["png", "video"])
def test_an_episode_that_fails_midway_leaves_the_others_whole(tmp_path: Path, storage: str) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from frames(3)
        raise DatasetError("a hole")

    with DatasetWriter(tmp_path / "d", FEATURES, 20, "rig", image_storage=storage, codec="h264") as writer:  # type: ignore[arg-type]
        writer.add_episode(frames(4, 1), "push")
        with pytest.raises(DatasetError, match="a hole"):
            writer.add_episode(broken(), "push")
        writer.add_episode(frames(6, 2), "push")
    dataset = verify_dataset(tmp_path / "d")
    assert dataset.lengths == (4, 6)
    np.testing.assert_array_equal(dataset.episode(1).values[ONE], [frame[ONE] for frame in frames(6, 2)])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({STATE: np.zeros(4, np.float32)}, r"frame 1: 'observation\.state' must have shape \[3\], got \[4\]"),
        ({STATE: np.full(3, np.nan, np.float32)}, r"'observation\.state' holds a number that is not finite"),
        ({CAMERA: np.zeros((32, 48, 3), np.float32)}, "must be uint8 RGB, got float32"),
        ({LIDAR: np.array([[np.nan, 0, 0]] * 5, np.float32)}, "NaN in whole rows only"),
        ({"observation.sate": np.zeros(3, np.float32)}, r"has 'observation\.sate', which is no feature"),
    ],
)
def test_a_wrong_frame_is_named(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    bad = [*frames(1), {**frames(1)[0], **change}]
    with DatasetWriter(tmp_path / "dataset", FEATURES, 20, "rig", image_storage="png") as writer:
        with pytest.raises(DatasetError, match=sentence):
            writer.add_episode(bad, "push")
        writer.add_episode(frames(1), "push")


def test_what_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DatasetError, match="exists already"):
        DatasetWriter(tmp_path / "full", FEATURES, 20, "rig")
    with pytest.raises(DatasetError, match="need the key 'action'"):
        DatasetWriter(tmp_path / "new", {STATE: FEATURES[STATE]}, 20, "rig")
    with pytest.raises(DatasetError, match=r"codec 'av2' is not one of.*Did you mean 'av1'"):
        DatasetWriter(tmp_path / "new", FEATURES, 20, "rig", codec="av2")
    odd = {**FEATURES, CAMERA: FeatureSpec(CAMERA, "image", (33, 48, 3), "uint8", ())}
    with pytest.raises(DatasetError, match=r"even sizes .* got 33x48"):
        DatasetWriter(tmp_path / "new", odd, 20, "rig")
    with pytest.raises(DatasetError, match="no episode"), DatasetWriter(tmp_path / "new", FEATURES, 20, "rig"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["full"]


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_damaged_dataset_is_refused_by_file(tmp_path: Path) -> None:
    dataset = write(tmp_path / "dataset", "video", codec="h264")
    root, info = dataset.root, dataset.root / "meta/info.json"
    whole = info.read_text()
    with pytest.raises(DatasetError, match="is no LeRobotDataset"):
        EpisodeDataset(tmp_path)
    edit_json(info, codebase_version="v2.1")
    with pytest.raises(DatasetError, match=r"codebase_version is 'v2\.1', this reads 'v3\.0'"):
        EpisodeDataset(root)
    info.write_text(whole)
    edit_json(info, total_frames=27)
    with pytest.raises(DatasetError, match="total_frames is 27, the episode tables hold 28"):
        EpisodeDataset(root)
    info.write_text(whole)
    with pytest.raises(DatasetError, match="episodes are 0 to 2"):
        dataset.episode(3)
    with pytest.raises(DatasetError, match=r"Did you mean 'observation\.state'"):
        dataset.episode(0, ["observation.stat"])
    movie = dataset.video_files(0)[0]
    movie.write_bytes(movie.read_bytes()[:500])
    with pytest.raises(DatasetError, match="not readable as video"):
        dataset.episode(0)
    movie.unlink()
    with pytest.raises(DatasetError, match="no such video file"):
        dataset.episode(0)
    (root / "data/chunk-000/file-000.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="not readable as parquet"):
        dataset.episode(0)


def test_statistics_of_nothing_are_nan_and_count_zero() -> None:
    empty = np.full((2, 5, 3), np.nan, np.float32)
    statistics = compute_statistics({LIDAR: empty}, FEATURES)[LIDAR]
    assert statistics["count"][0] == 0
    assert np.isnan(statistics["mean"]).all()


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system tells no thread's scheduling")
@pytest.mark.parametrize("codec", ["av1", "h264"])
def test_encoding_leaves_no_thread_with_real_time_priority(tmp_path: Path, codec: Any) -> None:
    encoder = VideoEncoder(tmp_path / "film.mp4", (32, 48), 20, codec)
    for frame in frames(4):
        encoder.add(frame[CAMERA])
        policies = {os.sched_getscheduler(int(path.name)) for path in Path("/proc/self/task").iterdir()}
        assert policies == {os.SCHED_OTHER}
    encoder.close()
