"""An edited dataset holds exactly what it should of the old one: rows, decoded frames, tasks, statistics."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest
from example_datasets import CAMERA, FPS, LENGTHS, STATE, TASKS, make

from vla_ros.cli.main import main
from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools import edits, rewrite
from vla_ros.datasets import EpisodeDataset, compute_statistics, verify_dataset
from vla_ros.datasets.images import VideoEncoder
from vla_ros.datasets.remux import Stretch, inspect_stretch


def assert_same(new: EpisodeDataset, old: EpisodeDataset, pairs: Sequence[tuple[int, int]]) -> None:
    """Hold that episodes are equal, every number and every pixel."""
    for here, there in pairs:
        one, two = new.episode(here), old.episode(there)
        assert one.values.keys() <= two.values.keys()
        for key, values in one.values.items():
            np.testing.assert_array_equal(values, two.values[key])
            for name, value in new.episode_statistics(here)[key].items():
                np.testing.assert_allclose(value, old.episode_statistics(there)[key][name], rtol=1e-12)


def packets(root: Path) -> list[bytes]:
    """The coded frames of all videos, in order."""
    found = []
    for path in sorted((root / "videos").rglob("*.mp4")):
        with av.open(str(path)) as container:
            found += [bytes(packet) for packet in container.demux(video=0) if packet.size]
    return found


@pytest.mark.usefixtures("unchanged")
def test_the_episodes_that_stay_are_as_they_were_and_numbered_anew(dataset: Path, tmp_path: Path) -> None:
    edits.delete_episodes(dataset, [1], tmp_path / "new")
    new, old = verify_dataset(tmp_path / "new"), EpisodeDataset(dataset)
    assert new.lengths == (12, 15, 9)
    assert new.tasks == ["push", "lift"]
    assert [new.task(index) for index in range(3)] == ["push", "push", "lift"]
    assert_same(new, old, [(0, 0), (1, 2), (2, 3)])


def test_no_frame_is_encoded_again(dataset: Path, tmp_path: Path) -> None:
    edits.delete_episodes(dataset, [0], tmp_path / "new")
    assert packets(tmp_path / "new") == packets(dataset)[LENGTHS[0] :]


def test_statistics_are_those_of_the_rows_that_are_left(dataset: Path, tmp_path: Path) -> None:
    edits.delete_episodes(dataset, [0, 3], tmp_path / "new")
    new = EpisodeDataset(tmp_path / "new")
    rows = np.concatenate([new.episode(index).values["action"] for index in range(2)])
    expected = compute_statistics({"action": rows}, new.features)["action"]
    for name, value in expected.items():
        np.testing.assert_allclose(new.stats["action"][name], value, atol=1e-7)


def test_a_merge_of_the_parts_of_a_split_is_the_whole(dataset: Path, tmp_path: Path) -> None:
    edits.split(dataset, {"train": 0.75, "val": 0.25}, tmp_path / "part")
    assert EpisodeDataset(tmp_path / "part_train").lengths == LENGTHS[:3]
    edits.merge([tmp_path / "part_train", tmp_path / "part_val"], tmp_path / "merged")
    merged, old = verify_dataset(tmp_path / "merged"), EpisodeDataset(dataset)
    assert_same(merged, old, [(index, index) for index in range(4)])
    assert packets(tmp_path / "merged") == packets(dataset)
    assert (merged.tasks, merged.lengths) == (old.tasks, old.lengths)
    for key, values in old.stats.items():
        for name, value in values.items():
            tolerance = 0.02 if key == CAMERA and name.startswith("q") else 1e-9
            np.testing.assert_allclose(merged.stats[key][name], value, atol=tolerance)


def test_videos_of_several_codings_go_into_files_of_their_own(dataset: Path, tmp_path: Path) -> None:
    other = make(tmp_path / "other", codec="av1", lengths=(8,))
    new = edits.merge([dataset, other], tmp_path / "merged")
    merged = verify_dataset(tmp_path / "merged")
    assert len(list((merged.root / "videos").rglob("*.mp4"))) == 2
    assert "is av1 in" in new.notes[0]
    np.testing.assert_array_equal(merged.episode(4).values[CAMERA], EpisodeDataset(other).episode(0).values[CAMERA])


def test_frames_with_b_frames_are_cut_and_joined_in_their_order(tmp_path: Path) -> None:
    root = make(tmp_path / "dataset", lengths=(12, 10))
    path = next(root.rglob("*.mp4"))
    parts = []
    for number, length in enumerate((12, 10)):
        parts.append(tmp_path / f"{number}.mp4")
        with av.open(str(parts[-1]), "w") as output:
            stream = output.add_stream(
                "libx264", rate=FPS, options={"bf": "3", "b-adapt": "0", "g": "250", "sc_threshold": "0"}
            )
            stream.width, stream.height, stream.pix_fmt = 48, 32, "yuv420p"
            for k in range(length):
                image = np.full((32, 48, 3), 100 * number + 8 * k, np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            output.mux(stream.encode())
    infos = [inspect_stretch(Stretch(part, 0.0, length), FPS) for part, length in zip(parts, (12, 10), strict=True)]
    assert all(info is not None and info.delay > 0 for info in infos)
    from vla_ros.datasets.remux import join_stretches

    join_stretches(
        [Stretch(parts[0], 0.0, 12), Stretch(parts[1], 0.0, 10)], path, FPS, max(i.delay for i in infos if i)
    )
    edits.delete_episodes(root, [0], tmp_path / "new")
    images = verify_dataset(tmp_path / "new").episode(0).values[CAMERA]
    assert [round(float(image.mean()) / 4) * 4 for image in images] == pytest.approx(
        [100 + 8 * k for k in range(10)], abs=5
    )


def test_a_stretch_that_begins_within_a_group_of_pictures_is_encoded_anew_and_said_so(tmp_path: Path) -> None:
    root = make(tmp_path / "dataset", lengths=(7, 8))
    path = next(root.rglob("*.mp4"))
    encoder = VideoEncoder(path, (32, 48), FPS, "h264")  # a key frame at every other frame: 7 is none
    rows, columns = np.mgrid[:32, :48]
    for k in range(15):  # so alike that no other becomes one
        encoder.add(np.stack([(columns * 5 + rows * 3 + 2 * k) % 256] * 3, -1).astype(np.uint8))
    encoder.close()
    before = EpisodeDataset(root).episode(1).values[CAMERA]
    new = edits.delete_episodes(root, [0], tmp_path / "new")
    assert "encoded anew as h264" in new.notes[0]
    after = verify_dataset(tmp_path / "new").episode(0).values[CAMERA]
    assert np.abs(after.astype(int) - before).mean() < 3


def test_a_removed_feature_is_gone_and_the_others_stay(dataset: Path, tmp_path: Path) -> None:
    edits.remove_feature(dataset, [CAMERA], tmp_path / "new")
    new = verify_dataset(tmp_path / "new")
    assert list(new.features) == [STATE, "action"]
    assert new.info["video_path"] is None
    assert not (new.root / "videos").exists()
    assert_same(new, EpisodeDataset(dataset), [(index, index) for index in range(4)])


def test_tasks_are_changed_by_episode_by_name_and_for_the_rest(dataset: Path, tmp_path: Path) -> None:
    edits.modify_tasks(dataset, episode_tasks={3: "raise"}, renamed={"push": "shove"}, target=tmp_path / "new")
    new = verify_dataset(tmp_path / "new")
    assert [new.task(index) for index in range(4)] == ["shove", "pull", "shove", "raise"]
    assert set(new.tasks_of_frames(2)) == {"shove"}
    edits.modify_tasks(dataset, new_task="work", target=tmp_path / "all")
    assert EpisodeDataset(tmp_path / "all").tasks == ["work"]
    assert_same(new, EpisodeDataset(dataset), [(index, index) for index in range(4)])


def test_images_become_videos_of_the_same_pictures(pictures: Path, tmp_path: Path) -> None:
    edits.images_to_video(pictures, "h264", 1, tmp_path / "new")
    new, old = verify_dataset(tmp_path / "new"), EpisodeDataset(pictures)
    assert new.info["features"][CAMERA]["dtype"] == "video"
    assert new.info["features"][CAMERA]["info"]["video.codec"] == "h264"
    for index in range(4):
        ours, theirs = new.episode(index).values, old.episode(index).values
        assert np.abs(ours[CAMERA].astype(int) - theirs[CAMERA]).mean() < 3
        np.testing.assert_array_equal(ours[STATE], theirs[STATE])
    np.testing.assert_array_equal(new.stats[CAMERA]["mean"], old.stats[CAMERA]["mean"])


def test_text_columns_and_matrices_are_carried_along(dataset: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    path = root / "data/chunk-000/file-000.parquet"
    table = pq.read_table(path)
    words = [f"word {k}" for k in range(len(table))]
    pq.write_table(table.append_column("note", pa.array(words)), path)
    info = json.loads((root / "meta/info.json").read_text())
    info["features"]["note"] = {"dtype": "string", "shape": [1], "names": None}
    (root / "meta/info.json").write_text(json.dumps(info))
    edits.delete_episodes(root, [0], tmp_path / "new")
    rows = EpisodeDataset(tmp_path / "new").rows(0, ["note"])
    assert rows["note"].to_pylist() == words[12:32]


def test_without_output_the_old_dataset_is_kept_beside_the_new_one(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    assert main(["dataset", "delete-episodes", str(root), "--episodes", "0,2-3"]) == 0
    assert EpisodeDataset(root).lengths == (20,)
    assert EpisodeDataset(tmp_path / "dataset_old").lengths == LENGTHS
    assert main(["dataset", "modify-tasks", str(root), "--new-task", "x"]) == 2  # dataset_old is there
    assert EpisodeDataset(root).tasks == [TASKS[1]]


def test_what_a_killed_edit_left_is_removed_by_the_next(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = tmp_path / ".new.partial-edit"
    (left / "data").mkdir(parents=True)
    (left / "data/half").write_text("x")
    new = edits.delete_episodes(dataset, [0], tmp_path / "new")
    assert "was killed left is removed" in new.notes[0]
    assert not left.exists()

    def fail(_: Path) -> None:
        raise DatasetError("a check fails")

    monkeypatch.setattr(rewrite, "verify_dataset", fail)
    with pytest.raises(DatasetError, match="a check fails"):
        edits.delete_episodes(dataset, [0], tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


def test_a_damaged_video_ends_the_edit_and_leaves_nothing(dataset: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(dataset, tmp_path / "dataset"))
    path = next(root.rglob("*.mp4"))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DatasetError, match=r"not readable as video|holds"):
        edits.delete_episodes(root, [0], tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["delete-episodes", "D", "--episodes", "4"], "has no episode 4; episodes are 0 to 3"),
        (["delete-episodes", "D", "--episodes", "0-3"], "no episode would be left"),
        (["delete-episodes", "D", "--episodes", "x"], "expected numbers of episodes"),
        (["remove-feature", "D", "--features", "observation.stat"], "Did you mean 'observation.state'"),
        (["remove-feature", "D", "--features", "timestamp"], "has no feature 'timestamp' that can be removed"),
        (["modify-tasks", "D", "--rename", "puhs=x"], "Did you mean 'push'"),
        (["modify-tasks", "D", "--episode-task", "x=y"], "expected the number of an episode"),
        (["modify-tasks", "D"], "no new task was given"),
        (["images-to-video", "D"], "has no feature of dtype image"),
        (["upgrade", "D"], "upgrade reads v2.0 and v2.1"),
        (["split", "D", "--splits", "a=0.8", "b=0.4"], "sum to at most 1"),
        (["split", "D", "--splits", "a=0-2", "b=2,3"], "episode 2 would be in two parts"),
        (["split", "D", "--splits", "a=0.01"], "would have none"),
        (["merge", "D", "D/nothing", "--output", "O"], "no such file"),
        (["info", "D/nothing"], "no such file"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    words: list[str], sentence: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [word.replace("D", str(dataset), 1) if word.startswith("D") else word for word in words]
    output = [] if words[0] in ("info", "merge") else ["--output", str(tmp_path / "new")]
    assert main(["dataset", *given, *output]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_info_says_what_there_is(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset", "info", str(dataset), "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["episodes"], about["frames"], about["fps"]) == (4, 56, 10)
    assert about["tasks"] == {"push": 2, "pull": 1, "lift": 1}
    assert about["features"][CAMERA] == {
        "dtype": "video", "shape": [32, 48, 3], "names": ["height", "width", "channels"], "codec": "h264",
    }  # fmt: skip
    assert main(["dataset", "info", str(dataset)]) == 0
    assert "56, 5.6 s at 10 per second" in capsys.readouterr().out
