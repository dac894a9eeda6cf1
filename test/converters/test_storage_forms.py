"""One drive of a mobile base, stored in every form that recorders know: the datasets are equal to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_ros.bags import serialize, typestore
from vla_ros.contract import RobotContract, load_contract
from vla_ros.converters import convert_bags
from vla_ros.datasets import EpisodeDataset

S, MS = 1_000_000_000, 1_000_000
BEGIN = 1_700_000_000 * S
ODOMETRY, TWIST, TF = "nav_msgs/msg/Odometry", "geometry_msgs/msg/Twist", "tf2_msgs/msg/TFMessage"
CONTRACT = """
robot_type: mobile_base
fps: 10
inputs:
  - {key: observation.odometry, topic: /odom, type: nav_msgs/msg/Odometry, max_age_s: 0.3,
     alignment: {method: interpolate}}
  - {key: observation.base, topic: /tf, type: tf2_msgs/msg/TFMessage, max_age_s: 0.3,
     transform: {parent: odom, child: base_footprint}}
action:
  representation: planar_twist
  names: [vx, wz]
  units: [m/s, rad/s]
  record: {topic: /cmd_vel, type: geometry_msgs/msg/Twist, max_age_s: 0.5, alignment: {timeline: receive}}
  sinks: [{topic: /cmd_vel, type: geometry_msgs/msg/Twist}]
instruction: {default: drive to the door}
"""
Sent = tuple[str, str, int, bytes]


def new(name: str, *fields: Any) -> Any:
    return typestore().types[name](*fields)


def vector(*numbers: float) -> Any:
    return new("geometry_msgs/msg/Vector3", *numbers)


def drive(seconds: float = 4.0) -> list[Sent]:
    """Odometry and transform at 29 Hz with delays that vary, commands at 12 Hz."""
    rng = np.random.default_rng(4)
    sent: list[Sent] = []
    for k in range(int(seconds * 29)):
        ns = BEGIN + k * S // 29
        header = new("std_msgs/msg/Header", new("builtin_interfaces/msg/Time", ns // S, ns % S), "odom")
        yaw = 0.3 * k / 29
        turn = new("geometry_msgs/msg/Quaternion", 0.0, 0.0, np.sin(yaw / 2), np.cos(yaw / 2))
        pose = new("geometry_msgs/msg/Pose", new("geometry_msgs/msg/Point", k / 29, k / 58, 0.0), turn)
        speed = new(TWIST, vector(1.0, 0.0, 0.0), vector(0.0, 0.0, 0.3))
        odometry = new(
            ODOMETRY,
            header,
            "base_footprint",
            new("geometry_msgs/msg/PoseWithCovariance", pose, np.zeros(36)),
            new("geometry_msgs/msg/TwistWithCovariance", speed, np.zeros(36)),
        )
        moved = new("geometry_msgs/msg/Transform", vector(k / 29, k / 58, 0.0), turn)
        transform = new(TF, [new("geometry_msgs/msg/TransformStamped", header, "base_footprint", moved)])
        late_ns = int(rng.integers(1, 12)) * MS
        sent.append(("/odom", ODOMETRY, ns + late_ns, serialize(odometry, ODOMETRY)))
        sent.append(("/tf", TF, ns + late_ns + MS, serialize(transform, TF)))
    for k in range(int(seconds * 12)):
        command = new(TWIST, vector(k / 100, 0.0, 0.0), vector(0.0, 0.0, -k / 100))
        sent.append(("/cmd_vel", TWIST, BEGIN + k * S // 12, serialize(command, TWIST)))
    return sorted(sent, key=lambda item: item[2])


def by_rosbags(plugin: StoragePlugin, mode: CompressionMode = CompressionMode.NONE) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        writer, connections = Writer(path, version=9, storage_plugin=plugin), {}
        if mode != CompressionMode.NONE:
            writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            for topic, kind, ns, raw in drive():
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
                writer.write(connections[topic], ns, raw)
        return path

    return write


def by_mcap(compression: CompressionType, **options: Any) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        file = path.with_suffix(".mcap")
        with file.open("wb") as stream:
            writer, channels = McapWriter(stream, compression=compression, chunk_size=4000, **options), {}
            writer.start(profile="ros2")
            for topic, kind, ns, raw in drive():
                if topic not in channels:
                    text = typestore().generate_msgdef(kind, ros_version=2)[0].encode()
                    channels[topic] = writer.register_channel(
                        topic, "cdr", writer.register_schema(kind, "ros2msg", text)
                    )
                writer.add_message(channels[topic], ns, raw, ns)
            writer.finish()
        return file

    return write


def by_ros_1(compression: Ros1Writer.CompressionFormat | None = None) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        file = path.with_suffix(".bag")
        store = get_typestore(Stores.ROS1_NOETIC)
        store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF))
        writer, connections = Ros1Writer(file), {}
        writer.chunk_threshold = 4000
        if compression is not None:
            writer.set_compression(compression)
        with writer:
            for topic, kind, ns, raw in drive():
                if topic not in connections:
                    old, digest = store.generate_msgdef(kind, ros_version=1)
                    name = "tf/msg/tfMessage" if topic == "/tf" else kind
                    connections[topic] = writer.add_connection(topic, name, msgdef=old, md5sum=digest)
                writer.write(connections[topic], ns, typestore().cdr_to_ros1(raw, kind))
        return file

    return write


FORMS: dict[str, Callable[[Path], Path]] = {
    "sqlite3": by_rosbags(StoragePlugin.SQLITE3),
    "sqlite3, file packed": by_rosbags(StoragePlugin.SQLITE3, CompressionMode.FILE),
    "sqlite3, messages packed": by_rosbags(StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "mcap": by_mcap(CompressionType.NONE),
    "mcap, chunks packed as lz4": by_mcap(CompressionType.LZ4),
    "mcap, chunks packed as zstd": by_mcap(CompressionType.ZSTD),
    "mcap without chunks": by_mcap(CompressionType.NONE, use_chunking=False),
    "mcap, messages packed": by_rosbags(StoragePlugin.MCAP, CompressionMode.MESSAGE),
    "mcap, file packed": by_rosbags(StoragePlugin.MCAP, CompressionMode.FILE),
    "ros 1": by_ros_1(),
    "ros 1, chunks packed as bz2": by_ros_1(Ros1Writer.CompressionFormat.BZ2),
    "ros 1, chunks packed as lz4": by_ros_1(Ros1Writer.CompressionFormat.LZ4),
}


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> RobotContract:
    path = tmp_path_factory.mktemp("contract") / "mobile_base.yaml"
    path.write_text(CONTRACT, encoding="utf-8")
    return load_contract(path)


@pytest.fixture(scope="module")
def from_sqlite(contract: RobotContract, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return converted(FORMS["sqlite3"], contract, tmp_path_factory.mktemp("sqlite3"))


def converted(write: Callable[[Path], Path], contract: RobotContract, folder: Path) -> dict[str, Any]:
    convert_bags([write(folder / "drive")], contract, folder / "dataset", progress=False)
    return EpisodeDataset(folder / "dataset").episode(0).values


def test_the_odometry_is_where_the_base_was_at_each_tick(from_sqlite: dict[str, Any]) -> None:
    x = from_sqlite["observation.odometry"][:, 0]
    assert len(x) == 40
    np.testing.assert_allclose(np.diff(x), 0.1, atol=1e-6)  # 1 m/s at 10 Hz
    np.testing.assert_allclose(from_sqlite["observation.base"][:, 0], x, atol=1 / 29)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_dataset(
    tmp_path: Path, contract: RobotContract, from_sqlite: dict[str, Any], form: str
) -> None:
    values = converted(FORMS[form], contract, tmp_path)
    assert values.keys() == from_sqlite.keys()
    for key, value in values.items():
        np.testing.assert_array_equal(value, from_sqlite[key], err_msg=key)
