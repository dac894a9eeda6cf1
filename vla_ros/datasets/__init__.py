"""LeRobotDataset v3.0 on disk: episodes in, episodes and training windows out, with statistics.

numpy, pyarrow, PyAV and cv2's PNG codec. No ROS types, no torch, no model code.
"""

from vla_ros.datasets.fitting import check_fits
from vla_ros.datasets.layout import Codec, ImageStorage
from vla_ros.datasets.reader import Episode, EpisodeDataset
from vla_ros.datasets.statistics import STATISTICS, Statistics, aggregate_statistics, compute_statistics
from vla_ros.datasets.verify import verify_dataset
from vla_ros.datasets.windows import WindowSampler, split_episodes
from vla_ros.datasets.writer import DatasetWriter, WriteError

__all__ = [
    "STATISTICS",
    "Codec",
    "DatasetWriter",
    "Episode",
    "EpisodeDataset",
    "ImageStorage",
    "Statistics",
    "WindowSampler",
    "WriteError",
    "aggregate_statistics",
    "check_fits",
    "compute_statistics",
    "split_episodes",
    "verify_dataset",
]
