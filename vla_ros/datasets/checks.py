"""Files of a dataset that somebody else wrote: read within limits, and refused in a sentence when malformed."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError
from vla_ros.datasets import layout
from vla_ros.datasets.statistics import STATISTICS

_MAX_JSON_BYTES = 256 * 1024**2
_MAX_TEMPLATE = 300
_MAX_FPS = 1000
_MAX_INDEX = 1 << 31
_PLACEHOLDER = re.compile(r"\{(chunk_index|file_index)(?::0?[1-9]?d)?\}|\{video_key\}")
_KEY = re.compile(r"[^/\\\x00-\x1f]{1,200}")
_EPISODE_COLUMNS = (
    "episode_index",
    "length",
    "data/chunk_index",
    "data/file_index",
    "dataset_from_index",
    "dataset_to_index",
)
_MAX_NUMBERS = 1 << 28
"""Numbers in one value of a feature."""


def read_json(path: Path, *, finite: bool = True) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: The file.
        finite: Refuse NaN and infinities.

    Raises:
        DatasetError: The file is missing, not readable as JSON, or no object.
    """

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"it holds {constant}")

    if not path.is_file():
        raise DatasetError(f"{path}: no such file; this is no LeRobotDataset, or an incomplete one.")
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise DatasetError(f"{path}: has more than {_MAX_JSON_BYTES} bytes.")
        content = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse if finite else None)
    except (ValueError, RecursionError, OSError) as reason:
        raise DatasetError(f"{path}: not readable as JSON: {' '.join(str(reason).split())[:120]}") from reason
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: expected an object, got {type(content).__name__}.")
    return content


def check_info(info: Mapping[str, Any], source: Path) -> None:
    """Refuse an ``info.json`` whose fields are not what the format says.

    Raises:
        DatasetError: Names the field, what was expected and what came.
    """
    version = info.get("codebase_version")
    if version != layout.CODEBASE_VERSION:
        raise DatasetError(
            f"{source}: codebase_version is {_short(version)}, this reads '{layout.CODEBASE_VERSION}'; "
            "v2.0 and v2.1 become it by `vla_ros dataset upgrade`."
        )
    for field in ("fps", "features", "total_episodes", "total_frames", "data_path"):
        if info.get(field) is None:
            raise DatasetError(f"{source}: lacks the field '{field}'.")
    fps = info["fps"]
    if not _is_number(fps) or fps != int(fps) or not 1 <= fps <= _MAX_FPS:
        raise DatasetError(f"{source}: fps must be an integer of at least 1 and at most {_MAX_FPS}, got {_short(fps)}.")
    for field in ("total_episodes", "total_frames"):
        if not _is_index(info[field]):
            raise DatasetError(f"{source}: {field} must be a number of at least 0, got {_short(info[field])}.")
    features = info["features"]
    if not isinstance(features, dict) or not all(isinstance(entry, dict) for entry in features.values()):
        raise DatasetError(f"{source}: features must be a mapping of mappings, got {_short(features)}.")
    for key in features:
        if not _KEY.fullmatch(key) or key in (".", ".."):
            raise DatasetError(f"{source}: '{key[:80]}' cannot be a feature's key.")
    has_video = any(entry.get("dtype") == "video" for entry in features.values())
    for field in ("data_path", *(("video_path",) if has_video else ())):
        _check_template(info.get(field), f"{source}: {field}")


def _check_template(template: object, place: str) -> None:
    """Refuse a path that leaves the dataset, or holds anything but the three places of the format."""
    problem = ""
    if not isinstance(template, str) or not 0 < len(template) <= _MAX_TEMPLATE:
        problem = f"must be a path of at most {_MAX_TEMPLATE} characters, got {_short(template)}"
    else:
        plain = _PLACEHOLDER.sub("0", template)
        path = PurePosixPath(plain)
        if "{" in plain or "}" in plain:
            problem = f"{_short(template)} may hold {{chunk_index:03d}}, {{file_index:03d}} and {{video_key}} only"
        elif path.is_absolute() or ".." in path.parts or "\\" in plain or "\0" in plain:
            problem = f"{_short(template)} leaves the dataset's folder"
    if problem:
        raise DatasetError(f"{place} {problem}.")


def check_feature(key: str, entry: Mapping[str, Any], source: Path) -> None:
    """Refuse a feature whose entry in ``info.json`` contradicts itself.

    Raises:
        DatasetError: Says what was expected.
    """
    shape, info = entry.get("shape"), entry.get("info")
    if not isinstance(entry.get("dtype"), str) or not _is_shape(shape):
        said = _short(dict(entry))
        raise DatasetError(f"{source}: feature '{key}' must have dtype, shape and names, got {said}.")
    if info is not None and not isinstance(info, dict):
        raise DatasetError(f"{source}: info of feature '{key}' must be a mapping, got {_short(info)}.")
    if isinstance(info, dict) and info.get("kind") in ("points", "window"):
        true, fields = info.get("layout"), info.get("fields", [])
        fits = _is_shape(true) and isinstance(fields, list) and prod(true) == prod(shape)  # type: ignore[arg-type]
        if not fits or len(true) != 2 or len(fields) not in (0, true[1]):  # type: ignore[arg-type,index]
            raise DatasetError(
                f"{source}: feature '{key}' has shape {_short(shape)}, which its layout {_short(true)} does not fill."
            )


def check_episode_rows(rows: Sequence[Mapping[str, Any]], videos: Sequence[str], source: Path) -> None:
    """Refuse episode tables that lack a column, or hold something else in it.

    Raises:
        DatasetError: Names the column.
    """
    times = [f"videos/{key}/{name}" for key in videos for name in ("from_timestamp", "to_timestamp")]
    numbers = [*_EPISODE_COLUMNS, *(f"videos/{key}/{n}" for key in videos for n in ("chunk_index", "file_index"))]
    for row in rows:
        for name in numbers:
            if not _is_index(row.get(name)):
                raise DatasetError(f"{source}: column '{name}' must hold numbers of at least 0, {_got(row, name)}.")
        for name in times:
            if not _is_number(row.get(name)):
                raise DatasetError(f"{source}: column '{name}' must hold times in s, {_got(row, name)}.")
        tasks = row.get("tasks")
        if not isinstance(tasks, list) or not tasks or not all(isinstance(task, str) for task in tasks):
            raise DatasetError(f"{source}: column 'tasks' must hold lists of instructions, {_got(row, 'tasks')}.")


def check_videos_follow(rows: Sequence[Mapping[str, Any]], videos: Sequence[str], fps: int, source: Path) -> None:
    """Refuse episodes that do not lie end to end in their video: each later one would show another's frames.

    Raises:
        DatasetError: Names the first that does not.
    """
    half_s = 0.5 / fps
    for key in videos:
        ends: dict[tuple[int, int], float] = {}
        for row in rows:
            place = f"videos/{key}/"
            file = (row[place + "chunk_index"], row[place + "file_index"])
            begin_s, end_s = row[place + "from_timestamp"], row[place + "to_timestamp"]
            expected_s = ends.get(file, 0.0)
            if abs(begin_s - expected_s) > half_s or abs(end_s - begin_s - row["length"] / fps) > half_s:
                raise DatasetError(
                    f"{source}: episode {row['episode_index']} of {row['length']} frames lies from {begin_s:.4f} s to "
                    f"{end_s:.4f} s in the video of '{key}', expected from {expected_s:.4f} s on, after the one before."
                )
            ends[file] = end_s


def check_statistics(stored: object, spec: FeatureSpec, place: str) -> None:
    """Refuse statistics that are no statistics of a feature. What is missing is let be.

    Args:
        stored: Statistic → nested lists.
        spec: The feature.
        place: File and feature, for the message.

    Raises:
        DatasetError: Names the statistic.
    """
    if not isinstance(stored, Mapping):
        raise DatasetError(f"{place}: expected a mapping of statistics, got {_short(stored)}.")
    arrays = {name: _numbers(stored[name], f"{place}: '{name}'") for name in STATISTICS if name in stored}
    count = arrays.pop("count", None)
    if count is not None and (count.size != 1 or not 0 <= float(count[0]) < float(1 << 53)):
        raise DatasetError(f"{place}: 'count' must be one number of at least 0, got {_short(stored['count'])}.")
    size = 3 if spec.kind == "image" else prod(spec.shape)
    for name, array in arrays.items():
        if array.size != size:
            raise DatasetError(f"{place}: '{name}' has {array.size} numbers, the feature has {size}.")
        if not np.isfinite(array).all() and not (count is not None and int(count[0]) == 0):
            raise DatasetError(f"{place}: '{name}' holds a number that is not finite.")
        if name == "std" and (array < 0).any():
            raise DatasetError(f"{place}: 'std' holds a negative number.")
    if "min" in arrays and "max" in arrays and (arrays["min"] > arrays["max"]).any():
        raise DatasetError(f"{place}: 'min' is above 'max'.")


def _numbers(value: object, place: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError, RecursionError):
        array = np.zeros(0)
    if not array.size or array.dtype.kind != "f" or isinstance(value, str):
        raise DatasetError(f"{place} must be numbers, got {_short(value)}.")
    return array.reshape(-1)


def _is_shape(value: object) -> bool:
    if not isinstance(value, list) or not 0 < len(value) <= 8 or not all(_is_index(n) and n > 0 for n in value):
        return False
    return prod(value) <= _MAX_NUMBERS


def _is_index(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MAX_INDEX


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _got(row: Mapping[str, Any], name: str) -> str:
    return f"got {_short(row[name])}" if name in row else "and is missing"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
