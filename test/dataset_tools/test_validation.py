"""Every fault that is put into a dataset is found by its family, and a good dataset is found good."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_datasets import CAMERA, FEATURES, FPS, STATE, frame

from vla_ros.cli.main import main
from vla_ros.dataset_tools.repair import repair
from vla_ros.dataset_tools.validation import FAMILIES, validate
from vla_ros.datasets import DatasetWriter, EpisodeDataset, verify_dataset

Frame = dict[str, np.ndarray[Any, Any]]
Change = Callable[[int, int, Frame], None]


def write(root: Path, change: Change, lengths: Iterable[int] = (24, 30, 28), storage: str = "png") -> Path:
    with DatasetWriter(root, FEATURES, FPS, "rig", image_storage=storage, codec="h264") as writer:  # type: ignore[arg-type]
        for episode, length in enumerate(lengths):
            frames = [frame(episode, k) for k in range(length)]
            for k, own in enumerate(frames):
                change(episode, k, own)
            writer.add_episode(frames, "push")
    return root


def nothing(_: int, __: int, ___: Frame) -> None:
    pass


def families(root: Path, *policies: str) -> dict[str, str]:
    """Return family → its findings, and hold that each says what to do."""
    found: dict[str, str] = {}
    for finding in validate(root, policies):
        assert finding.family in FAMILIES
        assert finding.what.endswith((".", ":", ")"))
        assert len(finding.fix) > 5
        found[finding.family] = found.get(finding.family, "") + f"{finding}\n"
    return found


def dead(episode: int, _: int, own: Frame) -> None:
    if episode == 1:
        own[CAMERA] = frame(1, 0)[CAMERA]


def dark(episode: int, k: int, own: Frame) -> None:
    if episode == 1:
        own[CAMERA] = np.full((32, 48, 3), k % 2, np.uint8)


def clipped(_: int, k: int, own: Frame) -> None:
    if k % 4:
        own["action"] = np.array([own["action"][0], 2.0], np.float32)


def frozen(episode: int, k: int, own: Frame) -> None:
    if episode == 2 and k > 20:
        own["action"] = np.array([0.5, 0.5], np.float32)


def jump(episode: int, k: int, own: Frame) -> None:
    if (episode, k) == (0, 10):
        own["action"] = own["action"] + 50


def constant(_: int, __: int, own: Frame) -> None:
    own[STATE] = np.array([own[STATE][0], 3.0], np.float32)


def outlier(episode: int, k: int, own: Frame) -> None:
    if (episode, k) == (1, 3):
        own[STATE] = np.array([500.0, 0.0], np.float32)


def twice(episode: int, k: int, own: Frame) -> None:
    if episode == 2:
        own["action"] = frame(0, k)["action"]


def follows(episode: int, k: int, own: Frame) -> None:
    own["action"] = frame(episode, k - 3)[STATE] if k > 2 else frame(episode, 0)[STATE]


@pytest.mark.parametrize(
    ("change", "family", "sentence"),
    [
        (dead, "cameras", "one and the same picture"),
        (dark, "cameras", "of one colour in episode 1"),
        (clipped, "actions", "largest value 2 in 7"),
        (frozen, "actions", "is the same in at least 5 %"),
        (jump, "actions", "jumps by more than 8"),
        (constant, "distribution", "b never changes"),
        (outlier, "distribution", "10 standard deviations from its median in 1 frames of episode 1"),
        (follows, "lag", "action a follows observation.state by 3 frames"),
    ],
)
def test_a_fault_is_found_by_its_family(change: Change, family: str, sentence: str, tmp_path: Path) -> None:
    assert sentence in families(write(tmp_path / "dataset", change))[family]


def test_a_good_dataset_has_no_finding(tmp_path: Path) -> None:
    assert families(write(tmp_path / "dataset", nothing, storage="video")) == {}


def test_an_episode_that_was_taken_twice_is_named(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset", twice, (24, 30, 24))
    assert "episodes 0, 2 have the same action" in families(root)["anomalies"]


def test_short_episodes_and_rare_tasks_are_named(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset", nothing, (24, 30, 4))
    assert "episode 2 last less than a second" in families(root)["episodes"]


def test_a_policy_that_cannot_be_trained_is_named_with_the_reason(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    found = families(write(tmp_path / "dataset", nothing), "act", "rt1")["policies"]
    assert "policy 'act' predicts 100 steps" in found


def test_clocks_that_the_conversion_found_apart_are_named(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset", nothing)
    episodes = [
        {
            "episode_index": n,
            "frames": 20,
            "late_ticks": 5 * n,
            "clock_offset_s": 1.2 * n,
            "offsets_s": {"/a": 0, "/b": n},
        }
        for n in range(2)
    ]
    (root / "meta/conversion_report.json").write_text(json.dumps({"episodes": episodes}))
    found = families(root)["clocks"]
    assert "shifted" in found
    assert "delays of the topics differ" in found
    assert "live robot would not have waited" in found


def test_files_that_do_not_travel_are_named(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset", nothing)
    (root / "data/notes.txt").write_text("x")
    (root / "meta/link").symlink_to("info.json")
    found = families(root)["portability"]
    assert "notes.txt is no parquet file" in found
    assert "meta/link is a link" in found


def test_statistics_of_other_rows_are_found(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset", nothing)
    stats = json.loads((root / "meta/stats.json").read_text())
    stats["action"]["mean"] = [7.0, 7.0]
    (root / "meta/stats.json").write_text(json.dumps(stats))
    assert "mean of action is not that of the rows" in families(root)["distribution"]


def test_the_exit_code_says_whether_the_wanted_severity_was_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(write(tmp_path / "dataset", constant))
    assert main(["dataset", "validate", root]) == 0
    assert main(["dataset", "validate", root, "--ci"]) == 0
    assert main(["dataset", "validate", root, "--ci", "--fail-on", "warn"]) == 1
    capsys.readouterr()
    assert main(["dataset", "validate", root, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {finding["family"] for finding in content["findings"]} >= {"distribution"}
    assert len(content["families"]) >= 11
    dead_root = str(write(tmp_path / "dead", dead))
    assert main(["dataset", "validate", dead_root]) == 1
    assert main(["dataset", "validate", str(tmp_path / "nothing")]) == 2


def shortened(root: Path) -> None:
    path = root / "meta/episodes/chunk-000/file-000.parquet"
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    starts = [*table["dataset_from_index"].to_pylist()[:2], 999]
    column = table.column_names.index("dataset_from_index")
    pq.write_table(table.set_column(column, "dataset_from_index", pa.array(starts)), path)


def counted_wrong(root: Path) -> None:
    info = json.loads((root / "meta/info.json").read_text())
    info["total_frames"] += 1
    (root / "meta/info.json").write_text(json.dumps(info))


@pytest.mark.parametrize(("damage", "kept"), [(shortened, 2), (counted_wrong, 3)])
def test_the_reader_refuses_what_is_not_contiguous_and_repair_keeps_the_verified_episodes(
    damage: Callable[[Path], None], kept: int, tmp_path: Path
) -> None:
    root = write(tmp_path / "dataset", nothing, storage="video")
    before = Path(shutil.copytree(root, tmp_path / "before"))
    damage(root)
    found = families(root)
    assert set(found) == {"metadata"}
    repair(root, tmp_path / "repaired")
    repaired, old = verify_dataset(tmp_path / "repaired"), EpisodeDataset(before)
    assert repaired.lengths == old.lengths[:kept]
    for index in range(kept):
        for key, values in repaired.episode(index).values.items():
            np.testing.assert_array_equal(values, old.episode(index).values[key])
