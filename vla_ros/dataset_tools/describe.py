"""What a dataset holds, in a few lines or as plain data."""

from collections import Counter
from typing import Any

from vla_ros.dataset_tools.sources import feature_entries
from vla_ros.datasets import EpisodeDataset


def describe(dataset: EpisodeDataset) -> dict[str, Any]:
    """Return plain data on a dataset: sizes, rates, features, tasks and files.

    Returns:
        ``root``, ``robot_type``, ``fps``, ``episodes``, ``frames``, ``duration_s``, ``lengths`` (shortest, median and
        longest, in frames), ``features`` by key, ``tasks`` (instruction → episodes), ``bytes`` by folder and
        ``contract_hash``.
    """
    lengths = sorted(dataset.lengths)
    tasks = Counter(task for index in range(dataset.n_episodes) for task in dataset.tasks_of(index))
    folders = {
        name: sum(path.stat().st_size for path in (dataset.root / name).rglob("*") if path.is_file())
        for name in ("data", "videos", "meta")
    }
    return {
        "root": str(dataset.root),
        "codebase_version": dataset.info["codebase_version"],
        "robot_type": dataset.robot_type,
        "fps": dataset.fps,
        "episodes": dataset.n_episodes,
        "frames": dataset.n_frames,
        "duration_s": round(dataset.n_frames / dataset.fps, 3),
        "lengths": [lengths[0], lengths[len(lengths) // 2], lengths[-1]],
        "features": {key: _feature(entry) for key, entry in feature_entries(dataset).items()},
        "tasks": dict(tasks),
        "bytes": folders,
        "contract_hash": dataset.contract_hash,
    }


def _feature(entry: dict[str, Any]) -> dict[str, Any]:
    codec = (entry.get("info") or {}).get("video.codec")
    return {
        "dtype": entry["dtype"],
        "shape": entry["shape"],
        "names": entry.get("names"),
        **({} if codec is None else {"codec": codec}),
    }
