"""A rig with a camera, joints and commands whose values count ticks, so that a test can read what was paired."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.bags import BagWriter, serialize, typestore
from vla_ros.contract import RobotContract, load_contract
from vla_ros.converters import ConversionReport, convert_bags
from vla_ros.datasets import EpisodeDataset

S, MS = 1_000_000_000, 1_000_000
START = 1_700_000_000 * S
IMAGE, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
COUNTING_RIG = """
robot_type: counting_rig
fps: 20
inputs:
  - {key: observation.images.front, topic: /cam, type: sensor_msgs/msg/Image, image: {height: 16, width: 16},
     max_age_s: 0.3}
  - {key: observation.state, topic: /js, type: sensor_msgs/msg/JointState, joints: [a, b], max_age_s: 0.3}
  - {key: observation.extra, topic: /extra, type: sensor_msgs/msg/JointState, joints: [a], max_age_s: 0.12,
     required: false}
action:
  representation: joint_position
  names: [a, b]
  units: [rad, rad]
  record: {topic: /cmd, type: sensor_msgs/msg/JointState, max_age_s: 0.3}
  sinks: [{topic: /out, type: trajectory_msgs/msg/JointTrajectory}]
instruction: {default: push the puck}
"""
Message = tuple[str, str, int, Any]
"""Topic, type, receive time, message."""


def made(name: str, *fields: Any) -> Any:
    return typestore().types[name](*fields)


def header(ns: int) -> Any:
    return made("std_msgs/msg/Header", made("builtin_interfaces/msg/Time", ns // S, ns % S), "")


def image(ns: int, value: int, size: tuple[int, int] = (16, 16)) -> Any:
    return made(IMAGE, header(ns), *size, "rgb8", 0, 3 * size[1], np.full(3 * size[0] * size[1], value % 256, np.uint8))


def joints(ns: int, value: float) -> Any:
    return made(JOINTS, header(ns), ["a", "b"], np.array([value, -value], float), np.zeros(0), np.zeros(0))


def tick(k: int, stamp_ns: int, receive_ns: int) -> list[Message]:
    """The messages of tick k, all of which carry that number."""
    return [
        ("/js", JOINTS, receive_ns + MS, joints(stamp_ns, k)),
        ("/cmd", JOINTS, receive_ns + MS, joints(stamp_ns, k)),
        ("/cam", IMAGE, receive_ns + 5 * MS, image(stamp_ns, k)),
    ]


def ticks(n: int = 40, begin: int = START, stamp: int = 0, receive: int = 0, first: int = 0) -> list[Message]:
    return [
        message
        for k in range(first, first + n)
        for message in tick(k, begin + k * 50 * MS + stamp, begin + k * 50 * MS + receive)
    ]


def record(path: Path, messages: Iterable[Message]) -> Path:
    """Write a bag in the order given."""
    with BagWriter(path) as writer:
        for topic, kind, receive_ns, message in messages:
            writer.write(topic, kind, serialize(message, kind), receive_ns)
    return path


@pytest.fixture
def counting_rig(tmp_path: Path) -> RobotContract:
    path = tmp_path / "counting_rig.yaml"
    path.write_text(COUNTING_RIG, encoding="utf-8")
    return load_contract(path)


@pytest.fixture
def converted(tmp_path: Path, counting_rig: RobotContract) -> Callable[..., tuple[ConversionReport, EpisodeDataset]]:
    def run(*bags: Path, **options: Any) -> tuple[ConversionReport, EpisodeDataset]:
        options = {"image_storage": "png", "progress": False, **options}
        report = convert_bags(bags, counting_rig, tmp_path / "dataset", **options)
        return report, EpisodeDataset(tmp_path / "dataset")

    return run


def numbers(dataset: EpisodeDataset, index: int = 0) -> tuple[list[int], list[int], list[int]]:
    """The tick that image, state and action of every row carry."""
    values = dataset.episode(index).values
    image, state, action = (values[key] for key in ("observation.images.front", "observation.state", "action"))
    return image[:, 0, 0, 0].tolist(), state[:, 0].astype(int).tolist(), action[:, 0].astype(int).tolist()
