"""Datasets that others wrote: read where they are right, refused in a sentence where they are not."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError, UserError
from vla_ros.datasets import DatasetWriter, EpisodeDataset, WindowSampler, aggregate_statistics, compute_statistics
from vla_ros.datasets.statistics import QUANTILES

CAMERA, STATE = "observation.images.front", "observation.state"
FEATURES = {
    CAMERA: FeatureSpec(CAMERA, "image", (16, 24, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (2,), "float32", ("a", "b")),
    "action": FeatureSpec("action", "action", (2,), "float32", ("x", "y")),
}
LOWS = (0.0, 100.0, 7.0)
Edit = Callable[[Path], object]


def values(episode: int, k: int) -> dict[str, np.ndarray[Any, Any]]:
    number = LOWS[episode] + k / 19
    return {
        CAMERA: np.full((16, 24, 3), 20 * episode + k, np.uint8),
        STATE: np.array([number, -number], np.float32),
        "action": np.array([number, 1.0], np.float32),
    }


@pytest.fixture(scope="module", params=["png", "video"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = tmp_path_factory.mktemp("made") / "dataset"
    with DatasetWriter(root, FEATURES, 10, "rig", image_storage=request.param, codec="h264") as writer:
        for episode in range(3):
            writer.add_episode([values(episode, k) for k in range(20)], f"task {episode}")
    return root


@pytest.fixture
def dataset(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "dataset"))


def info(**fields: Any) -> Edit:
    def edit(root: Path) -> None:
        path = root / "meta/info.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return edit


def feature(key: str, **fields: Any) -> Edit:
    def edit(root: Path) -> None:
        path = root / "meta/info.json"
        content = json.loads(path.read_text())
        content["features"][key] = {**content["features"].get(key, {}), **fields}
        path.write_text(json.dumps(content))

    return edit


def stats(**fields: Any) -> Edit:
    def edit(root: Path) -> None:
        path = root / "meta/stats.json"
        content = json.loads(path.read_text())
        content[STATE].update(fields)
        path.write_text(json.dumps(content))

    return edit


def column(name: str, change: Callable[[Any], Any] | None) -> Edit:
    """Change or drop a column of the episode table."""

    def edit(root: Path) -> None:
        path = root / "meta/episodes/chunk-000/file-000.parquet"
        table = pq.read_table(path)
        place, changed = table.column_names.index(name), table.drop_columns([name])
        if change is not None:
            changed = changed.add_column(place, name, pa.array([change(value) for value in table[name].to_pylist()]))
        pq.write_table(changed, path)

    return edit


def tasks(meta: dict[str, str]) -> Edit:
    def edit(root: Path) -> None:
        path = root / "meta/tasks.parquet"
        pq.write_table(pq.read_table(path).replace_schema_metadata(meta), path)

    return edit


def everything(root: Path) -> list[Any]:
    opened = EpisodeDataset(root)
    result: list[Any] = [opened.lengths, opened.tasks]
    for index in range(opened.n_episodes):
        episode = opened.episode(index)
        result.append({key: value.tobytes() for key, value in episode.values.items()})
        opened.episode_statistics(index)
    opened.statistics([0, 1])
    return result


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (info(data_path="/etc/passwd"), "leaves the dataset's folder"),
        (info(data_path="data/../../{chunk_index:03d}.parquet"), "leaves the dataset's folder"),
        (info(data_path="{chunk_index.__class__}"), "may hold"),
        (info(data_path="{chunk_index!r}"), "may hold"),
        (info(data_path="{chunk_index:0299999999d}"), "may hold"),
        (info(data_path="{episode_chunk}/{file_index:03d}"), "may hold"),
        (info(data_path="}"), "may hold"),
        (info(data_path=["a"]), "must be a path of at most"),
        (info(data_path="a" * 10_000), "must be a path of at most"),
        (info(fps=[1]), "fps must be an integer"),
        (info(fps=1e12), "fps must be an integer"),
        (info(fps=9.5), "fps must be an integer"),
        (info(fps=True), "fps must be an integer"),
        (info(fps=float("nan")), "not readable as JSON: it holds NaN"),
        (info(total_frames="60"), "total_frames must be a number"),
        (info(features=[]), "must be a mapping of mappings"),
        (feature("../../x", dtype="float32", shape=[1]), "cannot be a feature's key"),
        (feature(STATE, shape=[-2]), "must have dtype, shape and names"),
        (feature(STATE, shape=[1 << 20, 1 << 20]), "must have dtype, shape and names"),
        (feature(STATE, shape="2"), "must have dtype, shape and names"),
        (feature(STATE, info={"kind": "points", "layout": [9, 9], "fields": []}), "does not fill"),
        (feature(STATE, info=[1]), "info of feature 'observation.state' must be a mapping"),
        (feature(CAMERA, shape=[16, 24]), "must have height, width and 3 channels"),
        (column("length", None), "column 'length' must hold numbers of at least 0, and is missing"),
        (column("length", str), "column 'length' must hold numbers"),
        (column("tasks", None), "column 'tasks' must hold lists of instructions"),
        (column("tasks", lambda _: [1]), "column 'tasks' must hold lists of instructions"),
        (column("data/file_index", lambda n: n - 1), "column 'data/file_index' must hold numbers of at least 0"),
        (column("dataset_from_index", lambda n: n + 1), "covers rows 1 to 20"),
        (column("episode_index", lambda _: 0), "expected episode 1"),
        (tasks({"pandas": "{{{"}), "its description of the pandas index"),
        (tasks({"pandas": "[1]"}), "its description of the pandas index"),
        (stats(mean=[float("nan")] * 2), "'mean' holds a number that is not finite"),
        (stats(std=[-1.0, 1.0]), "'std' holds a negative number"),
        (stats(min=[5000.0, 5000.0]), "'min' is above 'max'"),
        (stats(q01=[1.0]), "'q01' has 1 numbers, the feature has 2"),
        (stats(mean="x"), "'mean' must be numbers"),
        (stats(mean=[[1.0], [1.0, 2.0]]), "'mean' must be numbers"),
        (stats(count=[-1]), "'count' must be one number"),
    ],
)  # fmt: skip
def test_malformed_datasets_are_refused_in_a_sentence(dataset: Path, edit: Edit, sentence: str) -> None:
    edit(dataset)
    with pytest.raises(DatasetError, match=sentence) as caught:
        everything(dataset)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000, '{"a":' * 50_000])
def test_json_that_keeps_a_parser_busy_is_refused(dataset: Path, text: str) -> None:
    (dataset / "meta/info.json").write_text(text)
    with pytest.raises(DatasetError, match=r"not readable as JSON|expected an object"):
        EpisodeDataset(dataset)


def test_episodes_that_do_not_follow_in_their_video_are_refused(dataset: Path) -> None:
    if EpisodeDataset(dataset).info["video_path"] is None:
        pytest.skip("this dataset stores images as PNG")
    column(f"videos/{CAMERA}/from_timestamp", lambda t: t + 0.1 if t > 1.0 else t)(dataset)
    with pytest.raises(DatasetError, match=r"episode 1 of 20 frames lies from 2\.1000 s .* expected from 2\.0000 s on"):
        EpisodeDataset(dataset)


def test_a_matrix_is_read_in_its_shape_and_windows_give_it_as_a_vector(dataset: Path) -> None:
    matrices = [(np.arange(6).reshape(2, 3) + k).tolist() for k in range(60)]
    path = dataset / "data/chunk-000/file-000.parquet"
    nested = pa.array(matrices, pa.list_(pa.list_(pa.float32())))
    pq.write_table(pq.read_table(path).append_column("observation.matrix", nested), path)
    feature("observation.matrix", dtype="float32", shape=[2, 3], names=["row", "column"])(dataset)
    content = json.loads((dataset / "meta/stats.json").read_text())
    content["observation.matrix"] = {n: [[0.0] * 3] * 2 for n in ("min", "max", "mean", "std")} | {"count": [60]}
    (dataset / "meta/stats.json").write_text(json.dumps(content))
    opened = EpisodeDataset(dataset)
    np.testing.assert_array_equal(opened.episode(1).values["observation.matrix"], np.array(matrices[20:40], np.float32))
    assert opened.statistics()["observation.matrix"]["q50"].tolist() == pytest.approx(
        np.median(matrices, 0).reshape(-1)
    )
    shapes = {"observation.matrix": (6,)}
    sampler = WindowSampler(opened, [2], ["observation.matrix"], 1, 1, shapes=shapes)
    assert sampler.item(0)["observation.matrix"].tolist() == [np.array(matrices[40]).reshape(-1).tolist()]


def test_rows_of_several_lengths_are_refused(dataset: Path) -> None:
    ragged = [[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]] * 59 + [[[0.0, 1.0, 2.0, 3.0], [4.0, 5.0]]]
    path = dataset / "data/chunk-000/file-000.parquet"
    pq.write_table(pq.read_table(path).append_column("observation.matrix", pa.array(ragged)), path)
    feature("observation.matrix", dtype="float32", shape=[2, 3], names=None)(dataset)
    content = json.loads((dataset / "meta/stats.json").read_text())
    (dataset / "meta/stats.json").write_text(json.dumps({**content, "observation.matrix": {}}))
    with pytest.raises(DatasetError, match="rows of several lengths"):
        EpisodeDataset(dataset).episode(2)


def test_quantiles_that_a_dataset_lacks_are_computed(dataset: Path) -> None:
    expected = EpisodeDataset(dataset).statistics()
    content = json.loads((dataset / "meta/stats.json").read_text())
    for entry in content.values():
        for name in QUANTILES:
            entry.pop(name)
    (dataset / "meta/stats.json").write_text(json.dumps(content))
    computed = EpisodeDataset(dataset).statistics()
    for key in FEATURES:
        for name in QUANTILES:
            tolerance = 0.03 if key == CAMERA else 1e-7  # a compressed image's pixels
            np.testing.assert_allclose(computed[key][name], expected[key][name], atol=tolerance)


def test_quantiles_of_chosen_episodes_are_those_of_their_rows(made: Path) -> None:
    chosen = EpisodeDataset(made).statistics([0, 1])
    rows = np.array([values(episode, k)["action"] for episode in (0, 1) for k in range(20)], np.float64)
    for name, level in QUANTILES.items():
        np.testing.assert_allclose(chosen["action"][name], np.quantile(rows, level, axis=0), atol=1e-6)
    assert chosen["action"]["count"][0] == 40


@pytest.mark.parametrize("seed", range(5))
def test_merged_quantiles_are_near_those_of_all_rows(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [rng.normal(rng.uniform(-5, 5), rng.uniform(0.1, 2), (int(rng.integers(50, 500)), 3)) for _ in range(6)]
    merged = aggregate_statistics([compute_statistics({"x": part}, {})["x"] for part in parts])
    every = np.concatenate(parts)
    for name, level in QUANTILES.items():
        np.testing.assert_allclose(merged[name], np.quantile(every, level, axis=0), atol=0.05 * float(np.ptp(every)))


def test_merged_quantiles_of_constant_parts_are_among_their_values() -> None:
    parts = [np.full((count, 1), value) for count, value in ((70, 0.0), (30, 1.0))]
    merged = aggregate_statistics([compute_statistics({"x": part}, {})["x"] for part in parts])
    assert [round(float(merged[name][0]), 6) for name in QUANTILES] == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_an_instruction_that_changes_within_an_episode_is_that_of_each_frame(dataset: Path) -> None:
    path = dataset / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    place = table.column_names.index("task_index")
    numbers = [0] * 10 + [2] * 10 + [1] * 20 + [2] * 20
    pq.write_table(table.set_column(place, "task_index", pa.array(numbers, pa.int64())), path)
    column("tasks", lambda names: ["task 0", "task 2"] if names == ["task 0"] else names)(dataset)
    sampler = WindowSampler(EpisodeDataset(dataset), [1, 0], [STATE], 1, 1)
    assert sampler.batch(np.array([0, 20, 29, 30, 39]))["task"] == ["task 1", "task 0", "task 0", "task 2", "task 2"]


def flip(dataset: Path, count: int, seed: int) -> None:
    whole, rng = everything(dataset), random.Random(seed)
    files = sorted(path for path in dataset.rglob("*") if path.is_file() and path.suffix != ".json")
    for k in range(count):
        file = rng.choice(files) if k % 2 else max(files, key=lambda path: path.stat().st_size)
        raw = file.read_bytes()
        damaged = bytearray(raw)
        damaged[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        try:
            got = everything(dataset)
            assert got[:2] == whole[:2], file
            assert got == whole or file.suffix == ".mp4", file
        except UserError:
            pass
        file.write_bytes(raw)


def test_flipped_bits_are_refused_or_without_effect(dataset: Path) -> None:
    flip(dataset, 12, 3)


@pytest.mark.slow
def test_three_hundred_flipped_bits_are_refused_or_without_effect(dataset: Path) -> None:
    flip(dataset, 300, 4)
