"""Writes the pages: one HTML file, a script of data for the whole and one for each episode, videos and images.

Data are scripts and not JSON because a browser loads no JSON from a page that it opened as a file.
"""

import json
import shutil
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.describe import describe
from vla_ros.dataset_tools.viewer.episodes import jerk, number_names, signals, write_ends, write_video
from vla_ros.datasets import EpisodeDataset, Statistics

_PAGE = "index.html"
_ASSETS = (_PAGE, "viewer.css", "viewer.js")


def write_pages(root: Path, target: Path, advance: Callable[[str], None] = lambda _: None) -> Path:
    """Write a folder of pages on a dataset.

    Args:
        root: The dataset.
        target: The folder; must not exist, or be empty.
        advance: Called after every episode.

    Returns:
        The page to open.

    Raises:
        DatasetError: The folder holds something, or the dataset is not readable.
    """
    dataset = EpisodeDataset(root)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DatasetError(f"{target}: exists already; choose another folder or remove it.")
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f".{target.name}.partial-", dir=target.parent))
    try:
        _write(dataset, folder, advance)
        folder.chmod(0o755)  # mkdtemp makes folders that only their owner can read
        if target.exists():
            target.rmdir()
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return target / _PAGE


def _write(dataset: EpisodeDataset, folder: Path, advance: Callable[[str], None]) -> None:
    for name in _ASSETS:
        (folder / name).write_bytes(files(__package__).joinpath("assets", name).read_bytes())
    for name in ("episodes", "videos", "images"):
        (folder / name).mkdir()
    cameras = [key for key, spec in dataset.features.items() if spec.kind == "image"]
    moving = next((key for key in ("observation.state", "action") if key in dataset.features), None)
    statistics = dataset.statistics()
    rows = []
    for index, length in enumerate(dataset.lengths):
        videos = []
        for number, key in enumerate(cameras):
            name = f"{index:06d}-{number}"
            write_video(dataset, index, key, folder / f"videos/{name}.mp4")
            write_ends(
                folder / f"videos/{name}.mp4", folder / f"images/{name}-first.jpg", folder / f"images/{name}-last.jpg"
            )
            videos.append({"camera": key, "name": name})
        rows.append(
            {
                "index": index,
                "length": length,
                "tasks": dataset.tasks_of(index),
                "jerk": 0.0 if moving is None else _jerk(dataset, index, moving, statistics[moving]),
                "videos": videos,
            }
        )
        _script(folder / f"episodes/{index:06d}.js", "vlaEpisode", {"index": index, "plots": signals(dataset, index)})
        advance(f"episode {index}")
    about = {**describe(dataset), "root": dataset.root.name, "rows": rows, "stats": _stats(dataset, statistics)}
    _script(folder / "dataset.js", "vlaDataset", about)


def _jerk(dataset: EpisodeDataset, index: int, key: str, statistics: Statistics) -> float:
    rows = dataset.episode(index, [key]).values[key].reshape(dataset.lengths[index], -1).astype(np.float64)
    spread = (statistics["max"] - statistics["min"]).reshape(-1)
    return float(f"{jerk(rows, spread, dataset.fps):.6g}")


def _stats(dataset: EpisodeDataset, statistics: dict[str, Statistics]) -> list[dict[str, Any]]:
    """Return a row per number of every vector and action, and per channel of every image."""
    rows = []
    for key, spec in dataset.features.items():
        own = statistics[key]
        names = number_names(dataset, key) if spec.kind in ("vector", "action") else list(spec.names)
        names = ["red", "green", "blue"] if spec.kind == "image" else names
        for number, name in enumerate(names[: own["mean"].size]):
            values = {
                statistic: float(f"{float(array.reshape(-1)[number]):.6g}")
                for statistic, array in own.items()
                if statistic != "count" and np.isfinite(array.reshape(-1)[number])
            }
            rows.append({"feature": key, "name": name, **values})
    return rows


def _script(path: Path, function: str, content: Any) -> None:
    text = json.dumps(content, ensure_ascii=True, allow_nan=False)
    path.write_text(f"{function}({text});\n", encoding="utf-8")
