"""A bag reads the same from every storage, whole or not at all: what it declares is held against what is read."""

import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapWriter
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vla_ros.bags import (
    Bag,
    BagWriter,
    bag_deserializer,
    bags_in,
    is_bag,
    read_messages,
    serialize,
    typestore,
)
from vla_ros.data_types import DatasetError, UserError

TEXT = "std_msgs/msg/String"
STORE = get_typestore(Stores.ROS2_HUMBLE)
BEGIN = 1_700_000_000_000_000_000
MS = 1_000_000
Sent = tuple[str, bytes, int]


def text(word: str) -> bytes:
    return serialize(typestore().types[TEXT](word), TEXT)


def sent(n: int = 60) -> list[Sent]:
    """Two topics, of which the second is half as fast."""
    result = []
    for k in range(n):
        result.append(("/a", text(f"number {k}"), BEGIN + k * 10 * MS))
        if k % 2:
            result.append(("/b", text("x" * k), BEGIN + k * 10 * MS + 1))
    return result


def by_rosbags(plugin: StoragePlugin, mode: CompressionMode = CompressionMode.NONE) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        writer = Writer(path, version=9, storage_plugin=plugin)
        if mode != CompressionMode.NONE:
            writer.set_compression(mode, CompressionFormat.ZSTD)
        connections: dict[str, Any] = {}
        with writer:
            for topic, raw, ns in sent():
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, TEXT, typestore=STORE)
                writer.write(connections[topic], ns, raw)

    return write


def by_mcap(
    *, messages: list[Sent] | None = None, during: Callable[[Any, int], None] | None = None, **options: Any
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        with (path / f"{path.name}_0.mcap").open("wb") as file:
            writer, channels = McapWriter(file, **options), {}
            writer.start(profile="ros2", library="test")
            for number, (topic, raw, ns) in enumerate(sent() if messages is None else messages):
                if topic not in channels:
                    schema = writer.register_schema(TEXT, "ros2msg", b"string data\n")
                    channels[topic] = writer.register_channel(topic, "cdr", schema)
                if during is not None:
                    during(writer, number)
                writer.add_message(channels[topic], ns, raw, ns)
            writer.finish()

    return write


def ours(path: Path) -> None:
    with BagWriter(path) as writer:
        for topic, raw, ns in sent():
            writer.write(topic, TEXT, raw, ns)


def by_ros_1(compression: Ros1Writer.CompressionFormat | None = None) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        writer, connections = Ros1Writer(path / "bag.bag"), {}
        if compression is not None:
            writer.set_compression(compression)
        store, writer.chunk_threshold = get_typestore(Stores.ROS1_NOETIC), 500
        with writer:
            for topic, raw, ns in sent():
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, TEXT, typestore=store)
                writer.write(connections[topic], ns, store.cdr_to_ros1(raw, TEXT))

    return write


def indexes_are_missing(writer: Any, number: int) -> None:
    """Leave the message index out of every third chunk."""
    writer._Writer__index_types = IndexType.ALL & ~IndexType.MESSAGE if number // 9 % 3 else IndexType.ALL


FORMS: dict[str, Callable[[Path], None]] = {
    "ours": ours,
    "mcap": by_rosbags(StoragePlugin.MCAP),
    "mcap, chunks packed": by_rosbags(StoragePlugin.MCAP, CompressionMode.STORAGE),
    "mcap, messages packed": by_rosbags(StoragePlugin.MCAP, CompressionMode.MESSAGE),
    "mcap, file packed": by_rosbags(StoragePlugin.MCAP, CompressionMode.FILE),
    "sqlite3": by_rosbags(StoragePlugin.SQLITE3),
    "sqlite3, messages packed": by_rosbags(StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "sqlite3, file packed": by_rosbags(StoragePlugin.SQLITE3, CompressionMode.FILE),
    "mcap, lz4": by_mcap(compression=CompressionType.LZ4, chunk_size=500),
    "mcap without chunks": by_mcap(use_chunking=False),
    "mcap without message indexes": by_mcap(index_types=IndexType.CHUNK, chunk_size=500),
    "mcap without some message indexes": by_mcap(during=indexes_are_missing, chunk_size=500),
    "mcap without summary": by_mcap(
        use_statistics=False, repeat_channels=False, repeat_schemas=False, use_summary_offsets=False, chunk_size=500
    ),
    "mcap without checksums": by_mcap(enable_crcs=False, chunk_size=500),
    "ros 1": by_ros_1(),
    "ros 1, chunks packed as bz2": by_ros_1(Ros1Writer.CompressionFormat.BZ2),
    "ros 1, chunks packed as lz4": by_ros_1(Ros1Writer.CompressionFormat.LZ4),
}


def read(path: Path, recover: bool = False) -> list[Sent]:
    return [(m.topic, m.raw, m.receive_ns) for m in read_messages(path, recover=recover)]


@pytest.mark.parametrize("form", FORMS)
def test_every_storage_gives_the_same_messages(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "bag")
    assert read(tmp_path / "bag") == sent()
    assert [m.raw for m in read_messages(tmp_path / "bag", ["/b"])] == [
        raw for topic, raw, _ in sent() if topic == "/b"
    ]


@pytest.mark.parametrize("form", [form for form in FORMS if "mcap, chunks" not in form])
def test_a_bag_without_its_metadata_is_read_from_its_files(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "bag")
    (tmp_path / "bag/metadata.yaml").unlink(missing_ok=True)
    assert read(tmp_path / "bag") == sent()
    (tmp_path / "bag/metadata.yaml").write_bytes(b"")
    assert read(tmp_path / "bag") == sent()


def test_messages_come_in_the_order_received_wherever_they_stand_in_the_file(tmp_path: Path) -> None:
    shuffled = sent()
    random.Random(0).shuffle(shuffled)
    by_mcap(messages=shuffled, chunk_size=300)(tmp_path / "bag")
    assert read(tmp_path / "bag") == sent()
    with Bag(tmp_path / "bag") as bag:
        assert [(m.topic, m.raw, m.receive_ns) for m in bag.messages(order="file")] == shuffled


def edited(bag: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    path = bag / "metadata.yaml"
    content = yaml.safe_load(path.read_text())
    edit(content["rosbag2_bagfile_information"])
    path.write_text(yaml.safe_dump(content))
    return bag


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (lambda i: i.update(relative_file_paths=[]), r"lists no file\); delete it"),
        (lambda i: i.update(relative_file_paths=["gone.mcap"]), r"1 are not there: gone\.mcap"),
        (lambda i: i.update(message_count=1000), "counts 1000 messages on all topics, the bag's files hold 90"),
        (lambda i: i["topics_with_message_count"].pop(), "counts 0 messages on /b, the bag's files hold 30"),
        (lambda i: i["topics_with_message_count"][0].update(message_count=7), "counts 7 messages on /a, .* hold 60"),
        (lambda i: i.update(message_count="many"), "'many' is no number of messages"),
        (lambda i: i.update(compression_mode="rar"), "compression_mode 'rar' is none of"),
        (lambda i: i.pop("relative_file_paths"), "lacks 'relative_file_paths'"),
    ],
)
@pytest.mark.parametrize("plugin", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_metadata_that_says_otherwise_is_refused_with_both_numbers(
    tmp_path: Path, edit: Any, sentence: str, plugin: StoragePlugin
) -> None:
    by_rosbags(plugin)(tmp_path / "bag")
    with pytest.raises(DatasetError, match=sentence):
        read(edited(tmp_path / "bag", edit))
    assert read(tmp_path / "bag", recover=True) == sent()


def test_qos_and_storage_identifier_have_no_part_in_reading(tmp_path: Path) -> None:
    by_rosbags(StoragePlugin.SQLITE3)(tmp_path / "bag")

    def edit(info: dict[str, Any]) -> None:
        info["storage_identifier"] = ""
        for topic in info["topics_with_message_count"]:
            topic["topic_metadata"]["offered_qos_profiles"] = "- history: 3\n  depth: 0\n"

    assert read(edited(tmp_path / "bag", edit)) == sent()


def test_a_file_that_metadata_does_not_list_is_not_left_out_in_silence(tmp_path: Path) -> None:
    by_rosbags(StoragePlugin.MCAP)(tmp_path / "bag")
    shutil.copy(tmp_path / "bag/bag.mcap", tmp_path / "bag/bag_1.mcap")
    with pytest.raises(DatasetError, match=r"holds bag_1\.mcap, which metadata\.yaml does not list"):
        read(tmp_path / "bag")


def test_a_split_bag_is_one_bag_and_its_tenth_part_follows_its_ninth(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    for part in range(12):
        by_mcap(messages=sent()[part * 8 : (part + 1) * 8])(tmp_path / f"part{part}")
        shutil.copy(next((tmp_path / f"part{part}").iterdir()), tmp_path / f"bag/bag_{part}.mcap")
    assert read(tmp_path / "bag") == sent()


def test_files_that_are_not_named_as_parts_are_bags_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "day").mkdir()
    for name in ("push_0", "push_1", "reach"):
        by_mcap()(tmp_path / name)
        shutil.copy(next((tmp_path / name).iterdir()), tmp_path / f"day/{name}.mcap")
    ours(tmp_path / "day/whole")
    assert not is_bag(tmp_path / "day")
    assert [path.name for path in bags_in(tmp_path / "day")] == ["push_0.mcap", "push_1.mcap", "reach.mcap", "whole"]
    with pytest.raises(DatasetError, match="holds 3 files, which are not named as the parts of one bag"):
        read(tmp_path / "day")


def test_a_log_that_the_writer_left_is_merged_and_the_bag_stays_as_it_was(tmp_path: Path) -> None:
    by_rosbags(StoragePlugin.SQLITE3)(tmp_path / "whole")
    connection = sqlite3.connect(tmp_path / "whole/whole.db3")
    rows = connection.execute("SELECT id, topic_id, timestamp, data FROM messages ORDER BY id").fetchall()
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; DELETE FROM messages;")
    connection.executemany("INSERT INTO messages VALUES (?,?,?,?)", rows[:40])
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.executemany("INSERT INTO messages VALUES (?,?,?,?)", rows[40:])
    connection.commit()
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")  # while the writer lives, as a kill leaves it
    connection.close()
    before = {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()}
    assert "whole.db3-wal" in before
    assert read(tmp_path / "killed") == sent()
    assert {path.name: path.read_bytes() for path in (tmp_path / "killed").iterdir()} == before


def test_a_definition_that_cannot_be_read_matters_only_to_who_asks_for_it(tmp_path: Path) -> None:
    def service(writer: Any, number: int) -> None:
        if number == 0:
            schema = writer.register_schema("a/srv/Home_Event", "ros2msg", b"bool slow\n---\nbool ok\n")
            writer.add_message(writer.register_channel("/home", "cdr", schema), BEGIN, b"\0\1\0\0\0", BEGIN)

    by_mcap(during=service)(tmp_path / "bag")
    with Bag(tmp_path / "bag") as bag:
        assert [m.raw for m in bag.messages(["/b"])] == [raw for topic, raw, _ in sent() if topic == "/b"]
        assert bag.deserialize(text("word"), TEXT).data == "word"
        with pytest.raises(DatasetError, match=r"definition of a/srv/Home_Event: not readable"):
            bag.deserialize(b"\0\1\0\0\0", "a/srv/Home_Event")


def test_topics_in_another_encoding_are_refused_only_when_asked_for(tmp_path: Path) -> None:
    def json_too(writer: Any, number: int) -> None:
        if number == 0:
            writer.add_message(writer.register_channel("/json", "json", 0), BEGIN, b"{}", BEGIN)

    by_mcap(during=json_too)(tmp_path / "bag")
    assert len(list(read_messages(tmp_path / "bag", ["/a"]))) == 60
    with pytest.raises(DatasetError, match="/json is encoded as 'json', only cdr is read"):
        list(read_messages(tmp_path / "bag", ["/json"]))


def test_ros_1_bags_give_the_same_content_as_cdr(tmp_path: Path) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    kind = "geometry_msgs/msg/PointStamped"
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connection = writer.add_connection("/point", kind, typestore=store)
        for k in range(5):
            header = store.types["std_msgs/msg/Header"](k, store.types["builtin_interfaces/msg/Time"](k + 1, 5), "map")
            message = store.types[kind](header, store.types["geometry_msgs/msg/Point"](k, 2.0, 3.0))
            writer.write(connection, BEGIN + k, store.serialize_ros1(message, kind))
    messages = list(read_messages(tmp_path / "old.bag"))
    assert [(m.topic, m.type, m.receive_ns) for m in messages] == [("/point", kind, BEGIN + k) for k in range(5)]
    read_back = bag_deserializer(tmp_path / "old.bag")(messages[3].raw, kind)
    assert (read_back.header.stamp.sec, read_back.header.frame_id, read_back.point.x) == (4, "map", 3.0)


def test_a_ros_1_bag_that_was_never_closed_is_recovered_whole(tmp_path: Path) -> None:
    """As `rosbag record` leaves NAME.bag.active when it is killed: no index, and a header that points at none."""
    FORMS["ros 1"](tmp_path / "bag")
    raw = (tmp_path / "bag/bag.bag").read_bytes()
    at = raw.index(b"index_pos=") + len(b"index_pos=")
    index = int.from_bytes(raw[at : at + 8], "little")
    path = tmp_path / "push.bag.active"
    path.write_bytes(raw[:at] + bytes(8) + raw[at + 8 : index])
    with pytest.raises(DatasetError, match=r"push\.bag\.active is cut off: 90 messages precede the cut"):
        read(path)
    assert read(path, recover=True) == sent()


def test_ros_1_messages_come_in_the_order_of_the_file_or_as_received(tmp_path: Path) -> None:
    store, ns = get_typestore(Stores.ROS1_NOETIC), [BEGIN + k * MS for k in (5, 6, 1, 2, 9)]
    writer = Ros1Writer(tmp_path / "back.bag")
    writer.chunk_threshold = 60
    with writer:
        connection = writer.add_connection("/a", TEXT, typestore=store)
        for at in ns:
            writer.write(connection, at, store.cdr_to_ros1(text("word"), TEXT))
    with Bag(tmp_path / "back.bag") as bag:
        assert [m.receive_ns for m in bag.messages(order="file")] == ns
        assert [m.receive_ns for m in bag.messages()] == sorted(ns)


# Damage


def test_a_packed_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    FORMS["mcap, file packed"](tmp_path / "bag")
    file = tmp_path / "bag/bag.mcap.zstd"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(DatasetError, match=r"bag\.mcap\.zstd is cut off"):
        read(tmp_path / "bag")


@pytest.mark.parametrize("form", ["ours", "mcap, chunks packed", "sqlite3", "ros 1", "ros 1, chunks packed as bz2"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_cut_is_refused_and_what_precedes_it_is_recovered_in_order(tmp_path: Path, form: str, keep: float) -> None:
    FORMS[form](tmp_path / "bag")
    file = max((tmp_path / "bag").iterdir(), key=lambda path: path.stat().st_size)
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(DatasetError, match="cut off"):
        read(tmp_path / "bag")
    with Bag(tmp_path / "bag", recover=True) as bag:
        got = [(m.topic, m.raw, m.receive_ns) for m in bag.messages()]
        assert got == [message for message in sent() if message in got]
        assert bag.damage


def test_rows_of_a_damaged_database_are_found_page_by_page(tmp_path: Path) -> None:
    messages = [("/a", text("y" * (k * 37 % 9000)), BEGIN + k) for k in range(200)]  # many over several pages
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.SQLITE3)
    with writer:
        connection = writer.add_connection("/a", TEXT, typestore=STORE)
        for _, raw, ns in messages:
            writer.write(connection, ns, raw)
    file = tmp_path / "bag/bag.db3"
    raw = bytearray(file.read_bytes())
    raw[4096 * 60 : 4096 * 61] = bytes(4096)
    file.write_bytes(raw)
    with pytest.raises(DatasetError, match="SQLite finds it damaged"):
        read(tmp_path / "bag")
    got = read(tmp_path / "bag", recover=True)
    assert 150 < len(got) < 200
    assert got == [message for message in messages if message in got]


def flips(path: Path, count: int, seed: int) -> Iterator[tuple[str, int]]:
    """Turn one bit at a time, half of them in the largest file."""
    rng = random.Random(seed)
    files = sorted(file for file in path.iterdir() if file.is_file())
    for k in range(count):
        file = rng.choice(files) if k % 2 else max(files, key=lambda f: f.stat().st_size)
        raw = file.read_bytes()
        position = rng.randrange(len(raw))
        damaged = bytearray(raw)
        damaged[position] ^= 1 << rng.randrange(8)
        file.write_bytes(damaged)
        yield file.name, position
        file.write_bytes(raw)


def check_flips(path: Path, count: int, *, seed: int, has_checksums: bool) -> None:
    for place in flips(path, count, seed):
        try:
            got = read(path)
            assert len(got) == len(sent()), place
            assert got == sent() or not has_checksums, place
        except UserError:
            pass
        try:
            with Bag(path, recover=True) as bag:
                recovered = [(m.topic, m.raw, m.receive_ns) for m in bag.messages()]
                assert len(recovered) == len(sent()) or bag.damage, place
        except UserError:
            pass


CHECKSUMMED = ("ours", "mcap, lz4")


@pytest.mark.parametrize("form", FORMS)
def test_flipped_bits_are_refused_recovered_or_without_effect(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "bag")
    check_flips(tmp_path / "bag", 30, seed=1, has_checksums=form in CHECKSUMMED)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_three_hundred_flipped_bits_are_refused_recovered_or_without_effect(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "bag")
    check_flips(tmp_path / "bag", 300, seed=2, has_checksums=form in CHECKSUMMED)
