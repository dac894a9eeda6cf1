"""The pages of a dataset: complete, of the dataset's own numbers, in codecs of browsers, and of no other host."""

import json
import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from example_datasets import CAMERA, LENGTHS, STATE, make

from vla_ros.cli.main import main
from vla_ros.dataset_tools.viewer import write_pages
from vla_ros.dataset_tools.viewer.episodes import jerk
from vla_ros.datasets import EpisodeDataset
from vla_ros.datasets.images import read_frames


def content(path: Path) -> Any:
    """Return what a data script hands to the page."""
    match = re.fullmatch(r"vla(?:Dataset|Episode)\((.*)\);\n", path.read_text())
    assert match is not None
    return json.loads(match.group(1))


@pytest.fixture(scope="module")
def pages(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pages(dataset, tmp_path_factory.mktemp("view") / "pages").parent


def test_there_is_a_page_with_data_video_and_images_of_every_episode(pages: Path) -> None:
    names = sorted(str(path.relative_to(pages)) for path in pages.rglob("*") if path.is_file())
    expected = ["dataset.js", "index.html", "viewer.css", "viewer.js"]
    for index in range(4):
        expected += [f"episodes/{index:06d}.js", f"videos/{index:06d}-0.mp4"]
        expected += [f"images/{index:06d}-0-{end}.jpg" for end in ("first", "last")]
    assert names == sorted(expected)


def test_signals_are_those_of_the_dataset_with_the_action_dashed(pages: Path, dataset: Path) -> None:
    opened = EpisodeDataset(dataset)
    for index, length in enumerate(LENGTHS):
        plots = content(pages / f"episodes/{index:06d}.js")["plots"]
        assert [plot["name"] for plot in plots] == ["a", "b"]
        for column, plot in enumerate(plots):
            assert [(line["feature"], line["dashed"]) for line in plot["lines"]] == [(STATE, False), ("action", True)]
            for line in plot["lines"]:
                assert len(line["values"]) == length
                values = opened.episode(index).values[line["feature"]][:, column]
                np.testing.assert_allclose(line["values"], values, rtol=1e-5)


def test_videos_are_the_frames_of_each_episode_copied_where_they_are_h264(pages: Path, dataset: Path) -> None:
    opened = EpisodeDataset(dataset)
    for index, length in enumerate(LENGTHS):
        images = read_frames(pages / f"videos/{index:06d}-0.mp4", 0.0, length, 10, (32, 48, 3))
        np.testing.assert_array_equal(images, opened.episode(index).values[CAMERA])


def test_other_codecs_and_images_become_h264(tmp_path: Path) -> None:
    for storage, codec in (("video", "av1"), ("png", "h264")):
        root = make(tmp_path / storage, storage, codec, lengths=(6,))
        page = write_pages(root, tmp_path / f"pages_{storage}")
        with av.open(str(page.parent / "videos/000000-0.mp4")) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.codec_context.pix_fmt, stream.frames) == ("h264", "yuv420p", 6)


def test_nothing_comes_from_another_host(pages: Path) -> None:
    for name in ("index.html", "viewer.css", "viewer.js", "dataset.js"):
        text = (pages / name).read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)


def test_texts_of_a_dataset_cannot_become_code(tmp_path: Path) -> None:
    from vla_ros.dataset_tools import edits

    root = make(tmp_path / "dataset", lengths=(6,))
    task = "</script><img src=x onerror=alert(1)>\u2028"
    edits.modify_tasks(root, new_task=task, target=tmp_path / "new")
    page = write_pages(tmp_path / "new", tmp_path / "pages")
    assert content(page.parent / "dataset.js")["rows"][0]["tasks"] == [task]
    assert "\u2028" not in (page.parent / "dataset.js").read_text()
    assert "innerHTML" not in (page.parent / "viewer.js").read_text()


def test_jerk_is_the_third_derivative_in_ranges() -> None:
    seconds = np.arange(40) / 10
    rows = np.stack([seconds**3, seconds], 1)
    assert jerk(rows, np.array([2.0, 1.0]), 10) == pytest.approx(np.sqrt((3.0**2 + 0.0) / 2))
    assert jerk(rows[:3], np.array([2.0, 1.0]), 10) == 0.0
    assert jerk(rows, np.zeros(2), 10) == 0.0


def test_a_folder_that_holds_something_is_refused(dataset: Path, pages: Path) -> None:
    assert main(["dataset", "view", str(dataset), "--output", str(pages)]) == 2
