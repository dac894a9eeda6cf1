"""A dataset that was not finished: what a kill leaves goes on, what a full disk leaves is nothing."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import DatasetWriter, EpisodeDataset, WriteError, verify_dataset
from vla_ros.datasets import episode_buffer as buffers

CAMERA, STATE = "observation.images.front", "observation.state"
FEATURES = {
    CAMERA: FeatureSpec(CAMERA, "image", (16, 24, 3), "uint8", ("height", "width", "channels")),
    STATE: FeatureSpec(STATE, "vector", (2,), "float32", ("x", "y")),
    "action": FeatureSpec("action", "action", (1,), "float32", ("dx",)),
}
Frame = dict[str, np.ndarray[Any, Any]]


def frames(length: int, seed: int) -> Iterator[Frame]:
    rng = np.random.default_rng(seed)
    for _ in range(length):
        yield {
            CAMERA: rng.integers(0, 256, (16, 24, 3)).astype(np.uint8),
            STATE: rng.normal(size=2).astype(np.float32),
            "action": rng.normal(size=1).astype(np.float32),
        }


def writer(root: Path, **options: Any) -> DatasetWriter:
    return DatasetWriter(root, FEATURES, 20, "rig", **{"image_storage": "png", "resume": "job", **options})


def add(target: DatasetWriter, sources: range, written: list[int] | None = None) -> list[list[Any] | None]:
    """Write a source's two episodes unless an earlier run did; return what that run noted."""
    kept = []
    for source in sources:
        notes = target.resumed(f"bag {source}")
        kept.append(notes)
        if notes is None:
            for part in range(2):
                if written is not None:
                    written.append(source)
                seed = 10 * source + part
                target.add_episode(
                    frames(5, seed), f"task {source % 2}", note=lambda index, s=seed: {"i": index, "s": s}
                )
            target.mark_done(f"bag {source}")
    return kept


def killed(target: DatasetWriter) -> Path:
    """What a killed process leaves: its folder, and no lock."""
    target._journal.close()
    target._finished = True
    return target._journal.folder


def content(root: Path) -> list[Any]:
    dataset = verify_dataset(root)
    episodes = [dataset.episode(index) for index in range(dataset.n_episodes)]
    values = [(e.task, {key: value.tobytes() for key, value in e.values.items()}) for e in episodes]
    return [values, json.loads((root / "meta/stats.json").read_text())]


@pytest.mark.parametrize("options", [{}, {"image_storage": "video", "codec": "h264"}])
def test_a_killed_run_goes_on_and_gives_the_same_dataset(tmp_path: Path, options: dict[str, Any]) -> None:
    with writer(tmp_path / "whole", **options) as whole:
        add(whole, range(3))
    first = writer(tmp_path / "dataset", **options)
    add(first, range(2))
    first.add_episode(frames(5, 20), "task 0")  # of a source that was not finished
    folder = killed(first)
    assert folder.name.startswith(".dataset.partial-")
    written: list[int] = []
    second = writer(tmp_path / "dataset", **options)
    with second:
        kept = add(second, range(3), written)
    assert written == [2, 2]
    assert kept[:2] == [[{"i": 0, "s": 0}, {"i": 1, "s": 1}], [{"i": 2, "s": 10}, {"i": 3, "s": 11}]]
    assert "an earlier run of this command left" in second.notes[0]
    assert content(tmp_path / "dataset") == content(tmp_path / "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dataset", "whole"]


def test_a_run_killed_with_sigkill_leaves_what_is_gone_on_with(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; import test_resume as t\n"
        "w = t.writer(Path(sys.argv[2])); t.add(w, range(2)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, here, str(tmp_path / "dataset")],
        check=False,
        timeout=100,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == -9
    written: list[int] = []
    with writer(tmp_path / "dataset") as second:
        add(second, range(3), written)
    assert written == [2, 2]
    assert verify_dataset(tmp_path / "dataset").n_episodes == 6
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize("damage", ["byte", "file", "journal", "order"])
def test_only_the_verified_beginning_is_believed(tmp_path: Path, damage: str) -> None:
    first = writer(tmp_path / "dataset")
    add(first, range(3))
    folder = killed(first)
    data = folder / "parts/000002/data.parquet"
    journal = (folder / "journal.jsonl").read_text().splitlines(keepends=True)
    if damage == "byte":
        raw = bytearray(data.read_bytes())
        raw[100] ^= 1
        data.write_bytes(raw)
    elif damage == "file":
        data.unlink()
    elif damage == "journal":
        (folder / "journal.jsonl").write_text("".join(journal[:4]) + journal[4][:20])
    written: list[int] = []
    with writer(tmp_path / "dataset") as second:
        add(second, range(0, 3, 2) if damage == "order" else range(3), written)
    assert written == ([2, 2] if damage == "order" else [1, 1, 2, 2])
    verify_dataset(tmp_path / "dataset")


def test_what_other_options_left_is_named_and_not_touched(tmp_path: Path) -> None:
    other = writer(tmp_path / "dataset", resume="another contract")
    add(other, range(1))
    folder = killed(other)
    with writer(tmp_path / "dataset") as target:
        add(target, range(1))
    assert len(target.notes) == 1
    assert str(folder) in target.notes[0]
    assert "delete it" in target.notes[0]
    assert folder.is_dir()


def test_two_conversions_cannot_write_the_same_dataset(tmp_path: Path) -> None:
    with writer(tmp_path / "dataset") as first:
        with pytest.raises(DatasetError, match="another conversion writes the same dataset"):
            writer(tmp_path / "dataset")
        add(first, range(1))


def test_an_interrupt_keeps_what_is_finished_and_an_error_does_not(tmp_path: Path) -> None:
    def stop(reason: BaseException) -> None:
        with writer(tmp_path / "dataset") as target:
            add(target, range(1))
            raise reason

    with pytest.raises(KeyboardInterrupt):
        stop(KeyboardInterrupt())
    assert len(list(tmp_path.iterdir())) == 1
    with pytest.raises(DatasetError, match="no"):
        stop(DatasetError("no"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", ["episode", "finish"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run() -> None:
        with writer(tmp_path / "dataset") as target:
            add(target, range(1))
            if at == "finish":
                monkeypatch.setattr("vla_ros.datasets.writer.assemble", full)
                return
            monkeypatch.setattr(buffers.EpisodeBuffer, "_flush", full)
            target.add_episode(frames(3, 1), "task")

    with pytest.raises(WriteError, match="dataset: cannot be written: no space left on the device; free some space"):
        run()
    assert list(tmp_path.iterdir()) == []


def test_images_are_flushed_while_an_episode_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "ROW_GROUP_BYTES", 10_000)
    with writer(tmp_path / "dataset") as target:
        target.add_episode(frames(40, 0), "task")
        waiting = target._journal.parts[0].folder / "data.parquet"
        assert pq.ParquetFile(waiting).num_row_groups > 3
    dataset = verify_dataset(tmp_path / "dataset")
    expected = np.stack([frame[CAMERA] for frame in frames(40, 0)])
    np.testing.assert_array_equal(dataset.episode(0).values[CAMERA], expected)
    paths = pq.read_table(tmp_path / "dataset/data/chunk-000/file-000.parquet")[CAMERA].to_pylist()
    assert [entry["path"] for entry in paths] == [f"frame-{k:06d}.png" for k in range(40)]


def test_episodes_can_be_taken_back(tmp_path: Path) -> None:
    with writer(tmp_path / "dataset") as target:
        target.add_episode(frames(3, 0), "a")
        target.add_episode(frames(4, 1), "b")
        target.rollback(1)
        target.add_episode(frames(5, 2), "c")
    assert EpisodeDataset(tmp_path / "dataset").lengths == (3, 5)
    verify_dataset(tmp_path / "dataset")
