"""Bags as older releases and other programs write them: schemas, metadata versions, short names, renamed types."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from vla_ros.bags import Bag, bag_deserializer, serialize, typestore
from vla_ros.data_types import DatasetError

TEXT, TF = "std_msgs/msg/String", "tf2_msgs/msg/TFMessage"
BEGIN = 1_600_000_000_000_000_000
WORDS = [f"word {k}" for k in range(5)]
MESSAGES = [(BEGIN + k, serialize(typestore().types[TEXT](word), TEXT)) for k, word in enumerate(WORDS)]

TOPICS = {
    1: "id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT",
    2: "id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, offered_qos_profiles TEXT",
    3: "id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, offered_qos_profiles TEXT",
    4: "id INTEGER PRIMARY KEY, name TEXT, type TEXT, serialization_format TEXT, offered_qos_profiles TEXT, "
    "type_description_hash TEXT",
}
"""Columns of the table by the version of rosbag2's schema: Crystal, Foxy, Humble, Iron and later."""


def database(path: Path, schema: int, topic: str = "/words", kind: str = TEXT) -> Path:
    with sqlite3.connect(path) as file:
        file.execute(f"CREATE TABLE topics({TOPICS[schema]})")
        file.execute("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, timestamp INTEGER, data BLOB)")
        row = [1, topic, kind, "cdr", "- history: 3", "RIHS01_00"][: TOPICS[schema].count(",") + 1]
        file.execute(f"INSERT INTO topics VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
        if schema > 2:
            file.execute("CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT)")
            file.execute("INSERT INTO schema VALUES (?, 'humble')", [schema])
            file.execute("CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER, metadata TEXT)")
        if schema > 3:
            file.execute(
                "CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT, encoding TEXT, "
                "encoded_message_definition TEXT, type_description_hash TEXT)"
            )
            file.execute("INSERT INTO message_definitions VALUES (1, ?, 'ros2msg', 'string data', 'RIHS01_00')", [kind])
        file.executemany("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, ?, ?)", MESSAGES)
    file.close()
    return path


def metadata(folder: Path, version: int, file: str, topic: str = "/words") -> None:
    """Write metadata.yaml as the versions of rosbag2 did: each adds fields, and the ninth turns the QoS into a list."""
    described: dict[str, Any] = {"name": topic, "type": TEXT, "serialization_format": "cdr"}
    info: dict[str, Any] = {
        "version": version,
        "storage_identifier": "sqlite3",
        "relative_file_paths": [f"{folder.name}/{file}" if version < 3 else file],
        "duration": {"nanoseconds": 4},
        "starting_time": {"nanoseconds_since_epoch": BEGIN},
        "message_count": len(MESSAGES),
        "topics_with_message_count": [{"topic_metadata": described, "message_count": len(MESSAGES)}],
    }
    if version > 2:
        info |= {"compression_format": "", "compression_mode": ""}
    if version > 3:
        described["offered_qos_profiles"] = [{"history": "keep_last"}] if version > 8 else "- history: 3\n  depth: 0"
    if version > 4:
        info["files"] = [{"path": file, "message_count": len(MESSAGES)}]
    if version > 5:
        info["custom_data"] = None
    if version > 6:
        described["type_description_hash"] = "RIHS01_00"
    if version > 7:
        info["ros_distro"] = "jazzy"
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": info}))


def words(path: Path, topic: str = "/words") -> list[str]:
    with Bag(path) as bag:
        assert bag.topics == {topic: TEXT}
        return [bag.deserialize(message.raw, message.type).data for message in bag.messages([topic])]


@pytest.mark.parametrize("schema", TOPICS)
@pytest.mark.parametrize("version", range(1, 10))
def test_every_schema_is_read_under_every_version_of_the_metadata(tmp_path: Path, schema: int, version: int) -> None:
    (tmp_path / "bag").mkdir()
    database(tmp_path / "bag/bag_0.db3", schema)
    metadata(tmp_path / "bag", version, "bag_0.db3")
    assert words(tmp_path / "bag") == WORDS


def test_short_names_of_topics_and_types_are_their_full_ones(tmp_path: Path) -> None:
    """rosbag2's first release stored std_msgs/String; programs that write bags without a node store relative topics."""
    (tmp_path / "bag").mkdir()
    database(tmp_path / "bag/bag_0.db3", 1, "words", "std_msgs/String")
    metadata(tmp_path / "bag", 4, "bag_0.db3", "words")
    assert words(tmp_path / "bag") == WORDS
    with (tmp_path / "bag.mcap").open("wb") as file:
        writer = McapWriter(file)
        writer.start()
        schema = writer.register_schema("std_msgs/String", "ros2msg", b"string data")
        channel = writer.register_channel("words", "cdr", schema)
        for ns, raw in MESSAGES:
            writer.add_message(channel, ns, raw, ns)
        writer.finish()
    assert words(tmp_path / "bag.mcap") == WORDS


def test_a_topic_stored_under_two_names_is_refused_when_asked_for(tmp_path: Path) -> None:
    path = database(tmp_path / "bag.db3", 2)
    with sqlite3.connect(path) as file:
        file.execute("INSERT INTO topics VALUES (2, 'words', ?, 'cdr', '')", [TEXT])
    file.close()
    with Bag(path) as bag, pytest.raises(DatasetError, match=r"stores /words under that name and as words; split"):
        list(bag.messages(["/words"]))


def with_definitions(path: Path, *definitions: str) -> Path:
    """A file with one topic of a type for each definition of that type."""
    with path.open("wb") as file:
        writer = McapWriter(file)
        writer.start()
        for number, definition in enumerate(definitions):
            schema = writer.register_schema("rig/msg/Gap", "ros2msg", definition.encode())
            channel = writer.register_channel(f"/gap{number}", "cdr", schema)
            writer.add_message(channel, BEGIN, b"\0\1\0\0" + b"\0\0\x80?", BEGIN)
        writer.finish()
    return path


def test_two_definitions_of_a_type_differ_when_their_fields_do(tmp_path: Path) -> None:
    same = with_definitions(tmp_path / "same.mcap", "float32 gap", "# in m\nuint8 OPEN=1\nfloat32 gap  # at the tips\n")
    assert bag_deserializer(same)(b"\0\1\0\0" + b"\0\0\x80?", "rig/msg/Gap").gap == 1.0
    other = with_definitions(tmp_path / "other.mcap", "float32 gap", "uint32 gap")
    with pytest.raises(DatasetError, match=r"carries two definitions of rig/msg/Gap that differ"):
        bag_deserializer(other)(b"\0\1\0\0" + b"\0\0\x80?", "rig/msg/Gap")


def test_transforms_of_ros_1_are_those_of_ros_2(tmp_path: Path) -> None:
    """ROS 1's tf sends tf/tfMessage on /tf, with the fields of tf2_msgs/TFMessage, which is what /tf_static carries."""
    store = get_typestore(Stores.ROS1_NOETIC)
    store.register(get_types_from_msg("geometry_msgs/TransformStamped[] transforms", TF))
    transform = "geometry_msgs/msg/TransformStamped"
    text, digest = store.generate_msgdef(TF, ros_version=1)
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connections = [
            writer.add_connection("/tf", "tf/msg/tfMessage", msgdef=f"# one tree\n{text}", md5sum=digest),
            writer.add_connection("/tf_static", TF, typestore=store),
        ]
        types = store.types
        for number, connection in enumerate(connections):
            header = types["std_msgs/msg/Header"](7, types["builtin_interfaces/msg/Time"](9, 0), "map")
            value = types["geometry_msgs/msg/Transform"](
                types["geometry_msgs/msg/Vector3"](float(number), 0.0, 0.0),
                types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0),
            )
            message = types[TF]([types[transform](header, f"child{number}", value)])
            writer.write(connection, BEGIN + number, store.serialize_ros1(message, TF))
    with Bag(tmp_path / "old.bag") as bag:
        assert bag.topics == {"/tf": TF, "/tf_static": TF}
        (first, second) = [bag.deserialize(message.raw, message.type).transforms[0] for message in bag.messages()]
    assert (first.child_frame_id, first.transform.translation.x, second.child_frame_id) == ("child0", 0.0, "child1")
