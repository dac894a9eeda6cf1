"""Checks of the files: metadata, times, videos and cameras, columns, what travels to another machine."""

import os
from pathlib import Path

import numpy as np

from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.validation.contents import Contents
from vla_ros.dataset_tools.validation.findings import Report, drop, some
from vla_ros.datasets import verify_dataset
from vla_ros.datasets.video_access import VideoReader

_LARGE = 5 * 1024**3
_LOOKS = 6
"""Frames of an episode that are looked at."""
_REPAIR = "restore the file from where the dataset came from; vla_ros dataset repair keeps the episodes before it"


def check_metadata(contents: Contents, report: Report) -> None:
    """Counts of info.json that nothing else holds."""
    dataset = contents.dataset
    stated = dataset.info.get("total_tasks")
    if stated is not None and stated != len(dataset.tasks):
        report("warn", f"info.json: total_tasks is {str(stated)[:20]}, there are {len(dataset.tasks)}.", "correct it")
    for name in ("robot_type", "splits"):
        if not dataset.info.get(name):
            report("warn", f"info.json: does not say {name}.", "add it, so that merging and splitting can hold it")
    used = {task for index in range(dataset.n_episodes) for task in dataset.tasks_of(index)}
    unused = [task for task in dataset.tasks if task not in used]
    if unused:
        report("warn", f"task '{unused[0][:80]}' is that of no episode.", "vla_ros dataset merge drops unused tasks")


def check_times(contents: Contents, report: Report) -> None:
    """Rows, timestamps and every frame's time, as `verify_dataset` holds them."""
    try:
        verify_dataset(contents.dataset.root)
    except DatasetError as reason:
        report("fail", str(reason), _REPAIR)


def check_finite(contents: Contents, report: Report) -> None:
    """Numbers that are no numbers, and columns that are not what info.json says."""
    for key in contents.number_keys:
        rows = contents.raw_rows(key)
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            episodes = contents.episodes_of(bad)
            report(
                "fail",
                f"{key} is not finite in {len(bad)} frames of {some(episodes)}.",
                drop(episodes),
                episodes,
            )


def check_cameras(contents: Contents, report: Report) -> None:
    """Frames that do not decode, and cameras that show the same picture all the time, or nothing."""
    dataset = contents.dataset
    for key, spec in dataset.features.items():
        if spec.kind != "image":
            continue
        dead, dark, broken = [], [], []
        for index, length in enumerate(dataset.lengths):
            frames = sorted({round(f) for f in np.linspace(0, length - 1, min(length, _LOOKS))})
            try:
                images = _look(contents, index, key, frames)
            except DatasetError as reason:
                broken.append((index, str(reason)))
                continue
            if len(frames) > 2 and all(np.array_equal(images[0], image) for image in images[1:]):
                dead.append(index)
            elif all(float(image.std()) < 2.0 for image in images):
                dark.append(index)
        if broken:
            report("fail", f"{key}: {broken[0][1]}", _REPAIR, [index for index, _ in broken])
        if dead:
            report(
                "fail",
                f"{key} shows one and the same picture from the first to the last frame of {some(dead)}.",
                f"the camera or its driver had stopped: {drop(dead)}",
                dead,
            )
        if dark:
            report(
                "warn",
                f"{key} is of one colour in {some(dark)}.",
                f"the lens was covered, or the exposure wrong: {drop(dark)}",
                dark,
            )


def _look(
    contents: Contents, index: int, key: str, frames: list[int]
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    dataset = contents.dataset
    if not dataset.is_video(key):
        return np.concatenate(list(dataset.chunks(index, key, frames, len(frames))))
    path, start_s = dataset.video_of(index, key)
    reader = VideoReader(path, dataset.features[key].shape, dataset.fps)
    try:
        return np.array(reader.read(start_s, frames))
    finally:
        reader.close()


def check_consistency(contents: Contents, report: Report) -> None:
    """Columns that info.json does not name."""
    dataset = contents.dataset
    known = set(dataset.info["features"])
    seen: set[str] = set()
    for index in range(dataset.n_episodes):
        seen |= set(dataset.columns_of(index)) - known
    if seen:
        report(
            "warn",
            f"the data files have columns that info.json does not name: {', '.join(sorted(seen)[:8])}.",
            "describe them in info.json, or write the dataset anew: vla_ros dataset merge DATASET --output NEW",
        )


def check_portability(contents: Contents, report: Report) -> None:
    """Links, files that cannot be read, that are no part of the format, or too large for a hub."""
    root = contents.dataset.root
    links, unreadable, strange, large = [], [], [], []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            links.append(name)
        elif path.is_file():
            if not os.access(path, os.R_OK):
                unreadable.append(name)
            if path.stat().st_size > _LARGE:
                large.append(name)
            if name.startswith("data/") and path.suffix != ".parquet":
                strange.append(name)
    for names, severity, what, fix in (
        (links, "warn", "is a link, which another machine may not follow", "copy the file in its place"),
        (unreadable, "fail", "cannot be read", "chmod a+r"),
        (strange, "warn", "is no parquet file and lies among the data", "remove it"),
        (large, "warn", "is larger than 5 GB", "write it anew, vla_ros dataset merge rolls files at 200 MB"),
    ):
        if names:
            report(
                severity, f"{Path(names[0])} {what}{f', and {len(names) - 1} others' if len(names) > 1 else ''}.", fix
            )
