"""Where a LeRobotDataset v3.0 keeps what: paths, file numbering and the feature table of ``info.json``.

Knows names and JSON, no parquet and no video.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import DatasetError, nearest_name

CODEBASE_VERSION = "v3.0"
CHUNKS_SIZE = 1000
"""Files in one chunk folder."""
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
CONTRACT_PATH = "meta/contract.yaml"
CONTRACT_HASH_PATH = "meta/contract_hash.txt"

INDEX_FEATURES: dict[str, str] = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns that every dataset has beside its features, with their dtypes."""

CAMERA_INFO = "camera_info"
"""Where ``info`` of a feature has the calibration of its camera, by the fields of sensor_msgs/CameraInfo."""

_IMAGE_NAMES = ("height", "width", "channels")
_DTYPES = ("bool", "float16", "float32", "float64", *(f"{u}int{bits}" for u in ("", "u") for bits in (8, 16, 32, 64)))

ImageStorage = Literal["video", "png"]
Codec = Literal["av1", "h264"]

_CODEC_NAMES: dict[str, Codec] = {"av1": "av1", "libsvtav1": "av1", "h264": "h264", "libx264": "h264"}


def codec_of(name: str) -> Codec:
    """Return the codec that a codec's or an encoder's name means.

    Raises:
        DatasetError: It means none; names the nearest.
    """
    if name not in _CODEC_NAMES:
        raise DatasetError(f"codec '{name}' is not one of {', '.join(_CODEC_NAMES)}.{nearest_name(name, _CODEC_NAMES)}")
    return _CODEC_NAMES[name]


@dataclass(frozen=True)
class FileAddress:
    """One numbered file of a kind: files are counted on, a thousand to a chunk folder."""

    chunk_index: int
    file_index: int

    @classmethod
    def of(cls, number: int) -> "FileAddress":
        """Return the address of the file with this running number, counted from 0."""
        return cls(number // CHUNKS_SIZE, number % CHUNKS_SIZE)

    @property
    def number(self) -> int:
        """Running number of the file."""
        return self.chunk_index * CHUNKS_SIZE + self.file_index

    def path(self, root: Path, pattern: str, video_key: str = "") -> Path:
        """Return the file's path under `root` for one of the path patterns of this module."""
        name = pattern.format(chunk_index=self.chunk_index, file_index=self.file_index, video_key=video_key)
        return root / name


def flat_size(spec: FeatureSpec) -> int:
    """Return how many numbers one frame of a feature takes in its column."""
    return prod(spec.shape)


def feature_entry(spec: FeatureSpec, image_storage: ImageStorage, fps: int, codec: Codec) -> dict[str, Any]:
    """Return a feature's entry in ``info.json``.

    Points and windows are stored as one flat list, which every reader of the format opens; their true
    layout goes into ``info``, and so does a camera's calibration.
    """
    info: dict[str, Any] = {}
    if spec.kind == "image":
        height, width, channels = spec.shape
        entry: dict[str, Any] = {
            "dtype": "video" if image_storage == "video" else "image",
            "shape": [height, width, channels],
            "names": ["height", "width", "channels"],
        }
        if image_storage == "video":
            info = {
                "video.height": height,
                "video.width": width,
                "video.codec": codec,
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": fps,
                "video.channels": channels,
                "has_audio": False,
            }
    elif spec.kind in ("points", "window"):
        info = {"kind": spec.kind, "layout": list(spec.shape), "fields": list(spec.names)}
        entry = {"dtype": spec.dtype, "shape": [flat_size(spec)], "names": None}
    else:
        entry = {"dtype": spec.dtype, "shape": list(spec.shape), "names": list(spec.names)}
    if spec.camera_info is not None:
        info[CAMERA_INFO] = dict(spec.camera_info)
    return {**entry, "info": info} if info else entry


def index_entries() -> dict[str, dict[str, Any]]:
    """Return the entries of the columns that every dataset has."""
    return {key: {"dtype": dtype, "shape": [1], "names": None} for key, dtype in INDEX_FEATURES.items()}


def info_content(
    *, robot_type: str, fps: int, episodes: int, frames: int, tasks: int, has_video: bool, features: dict[str, Any]
) -> dict[str, Any]:
    """Return the content of ``info.json``; `features` are those beside the columns that every dataset has."""
    return {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": CHUNKS_SIZE,
        "data_files_size_in_mb": DATA_FILE_MB,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if has_video else None,
        "features": {**features, **index_entries()},
    }


def is_read(entry: Mapping[str, Any]) -> bool:
    """Whether a feature is numbers or images; text and whatever else is let be."""
    return entry.get("dtype") in _DTYPES or entry.get("dtype") in ("image", "video")


def feature_of(key: str, entry: Mapping[str, Any], source: Path) -> FeatureSpec:
    """Return the feature that an entry of ``info.json`` describes.

    Raises:
        DatasetError: An image has no three axes.
    """
    dtype, shape, names = str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), entry.get("names")
    info = entry.get("info") or {}
    camera = info.get(CAMERA_INFO) if isinstance(info.get(CAMERA_INFO), Mapping) else None
    if dtype in ("image", "video"):
        return FeatureSpec(key, "image", _image_shape(key, shape, names, source), "uint8", _IMAGE_NAMES, camera)
    if info.get("kind") in ("points", "window") and "layout" in info:
        layout = tuple(int(n) for n in info["layout"])
        return FeatureSpec(key, info["kind"], layout, dtype, tuple(info.get("fields", ())), camera)
    kind: Literal["action", "vector"] = "action" if key == "action" else "vector"
    return FeatureSpec(key, kind, shape, dtype, _flat_names(names, shape))


def _image_shape(key: str, shape: tuple[int, ...], names: object, source: Path) -> tuple[int, ...]:
    """Return height, width and channels; some datasets of others name the channels first."""
    first = isinstance(names, list) and bool(names) and str(names[0]).startswith("channel")
    if len(shape) == 3 and first:
        shape = (shape[1], shape[2], shape[0])
    if len(shape) != 3 or shape[2] != 3:
        raise DatasetError(
            f"{source}: image feature '{key}' must have height, width and 3 channels, got {list(shape)}."
        )
    return shape


def _flat_names(names: object, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Names of a vector's numbers; datasets of others group them under a key, or have none."""
    if isinstance(names, Mapping):
        names = [name for group in names.values() for name in (group if isinstance(group, list) else [group])]
    if isinstance(names, list) and len(shape) == 1 and len(names) == shape[0]:
        return tuple(str(name) for name in names)
    return tuple(str(index) for index in range(prod(shape)))
