import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros import bags
from vla_ros.bags.episode_recorder import EpisodeRecorder, RecordedTopic
from vla_ros.data_types import DatasetError
from vla_ros.messages import decode_input
from vla_ros.messages.message_types import interface_folder, serialize, store_with
from vla_ros.messages.samples import make_example_action, make_example_message

IMAGE, JOINTS = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"
ACTION = "vla_ros_msgs/msg/EndEffectorAction"


@pytest.fixture
def bag(tmp_path: Path, make_contract: Any) -> Path:
    """A bag of 60 images of 36 kB, so of more than one MCAP chunk, and as many actions."""
    contract = make_contract(IMAGE)
    path = tmp_path / "bag"
    with bags.BagWriter(path) as writer:
        writer.add_topic("/silent", JOINTS)
        for k in range(1, 61):
            image = make_example_message(contract.inputs[0], k * 10**7, seed=k)
            writer.write_message("/Image", IMAGE, image, k * 10**7 + 5)
            writer.write_message(
                "/demonstration", ACTION, make_example_action(contract.action, k * 10**7), k * 10**7 + 9
            )
    return path


def cut(bag: Path, keep: float) -> Path:
    file = bag / "bag.mcap"
    raw = file.read_bytes()
    file.write_bytes(raw[: int(len(raw) * keep)])
    return file


def test_what_was_written_is_read_in_the_order_received(bag: Path, make_contract: Any) -> None:
    messages = list(bags.read_messages(bag))
    assert len(messages) == 120
    assert [m.receive_ns for m in messages] == sorted(m.receive_ns for m in messages)
    spec = make_contract(IMAGE).inputs[0]
    expected = make_example_message(spec, 10**7, seed=1)
    assert messages[0].raw == serialize(expected, IMAGE)
    np.testing.assert_array_equal(
        decode_input(spec, bags.bag_deserializer(bag)(messages[0].raw, IMAGE)), decode_input(spec, expected)
    )


def test_topics_are_chosen_and_listed_even_when_silent(bag: Path) -> None:
    assert bags.bag_topics(bag) == {"/silent": JOINTS, "/Image": IMAGE, "/demonstration": ACTION}
    assert {m.topic for m in bags.read_messages(bag, ["/demonstration"])} == {"/demonstration"}
    assert list(bags.read_messages(bag, [])) == []
    with pytest.raises(DatasetError, match=r"no topic '/demonstratio'.* Did you mean '/demonstration'\?"):
        list(bags.read_messages(bag, ["/demonstratio"]))


def test_the_mcap_file_alone_and_a_folder_without_metadata_are_bags_too(bag: Path) -> None:
    assert len(list(bags.read_messages(bag / "bag.mcap"))) == 120
    (bag / "metadata.yaml").unlink()
    assert len(list(bags.read_messages(bag))) == 120


def test_a_foreign_reader_opens_what_was_written(bag: Path) -> None:
    from mcap_ros2.reader import read_ros2_messages

    read = list(read_ros2_messages(bag / "bag.mcap", topics=["/demonstration"]))
    assert len(read) == 60
    assert read[0].ros_msg.header.frame_id == "base_link"


def test_a_cut_off_bag_says_how_much_precedes_the_cut_and_gives_it_on_request(bag: Path) -> None:
    cut(bag, 0.7)
    with pytest.raises(DatasetError, match=r"bag\.mcap is cut off .*: \d+ messages precede the cut"):
        list(bags.read_messages(bag))
    with pytest.raises(DatasetError, match="cut off"):
        bags.bag_topics(bag)
    whole = list(bags.read_messages(bag, recover=True))
    assert 40 <= len(whole) < 120
    silent = {"/silent": JOINTS}  # declared before the cut, and nothing came
    assert bags.bag_topics(bag, recover=True) == {"/Image": IMAGE, "/demonstration": ACTION, **silent}
    assert bags.bag_deserializer(bag)(whole[1].raw, whole[1].type).header.frame_id == "base_link"


@pytest.mark.parametrize("keep", [0.0, 0.0001, 0.3, 0.999, 0.99999])
def test_a_cut_anywhere_is_one_sentence(bag: Path, keep: float) -> None:
    cut(bag, keep)
    with pytest.raises(DatasetError):
        list(bags.read_messages(bag))


def test_noise_is_one_sentence(bag: Path) -> None:
    (bag / "bag.mcap").write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(DatasetError, match="not readable as a bag"):
        list(bags.read_messages(bag))


def test_flipped_bytes_are_one_sentence_or_wrong_messages_but_never_another_error(bag: Path) -> None:
    file = bag / "bag.mcap"
    raw = file.read_bytes()
    rng = np.random.default_rng(1)
    for _ in range(20):
        damaged = bytearray(raw)
        for position in rng.integers(len(raw) - 4000, len(raw), 3):  # the index: records, offsets, counts
            damaged[position] ^= 0xFF
        file.write_bytes(damaged)
        try:
            list(bags.read_messages(bag))
        except DatasetError as reason:
            assert str(bag) in str(reason)  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize("name", ["nothing", "bagg"])
def test_a_bag_that_does_not_exist_is_one_sentence(bag: Path, name: str) -> None:
    with pytest.raises(DatasetError, match="no such bag"):
        list(bags.read_messages(bag.parent / name))


def test_a_folder_that_is_no_bag_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"expected metadata\.yaml or one \.mcap or \.db3 file, found 0"):
        list(bags.read_messages(tmp_path))


def test_a_bag_is_never_overwritten(bag: Path) -> None:
    with pytest.raises(DatasetError, match="exists already"):
        bags.BagWriter(bag)


def test_a_type_that_is_not_known_cannot_be_recorded(tmp_path: Path) -> None:
    with bags.BagWriter(tmp_path / "b") as writer, pytest.raises(DatasetError, match="'my_msgs/msg/Thing' is unknown"):
        writer.write("/t", "my_msgs/msg/Thing", b"", 0)


def test_a_bag_s_own_definitions_take_precedence() -> None:
    from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

    older = MessageDefinition(MessageDefinitionFormat.MSG, "uint8 radiation_type\nfloat32 range\n")
    store = store_with({"sensor_msgs/msg/Range": older})
    assert [field for field, _ in store.fielddefs["sensor_msgs/msg/Range"][1]] == ["radiation_type", "range"]
    assert JOINTS in store.fielddefs
    with pytest.raises(DatasetError, match="definition of a/msg/B"):
        store_with({"a/msg/B": MessageDefinition(MessageDefinitionFormat.MSG, "float32[ x\n")})


def test_the_interfaces_definitions_are_found() -> None:
    folder = interface_folder()
    assert folder is not None
    assert (folder / "EndEffectorAction.msg").is_file()


# Episodes


def recorder(output: Path, contract: Any, hold_back_s: float = 0.0) -> tuple[EpisodeRecorder, list[tuple[str, str]]]:
    said: list[tuple[str, str]] = []
    spec = contract.inputs[0]
    topics = [
        RecordedTopic(spec.topic, spec.type, spec.qos, watched=True),
        RecordedTopic("/instruction", "std_msgs/msg/String", spec.qos, stamped=False, latched=True),
    ]
    return EpisodeRecorder(output, contract, topics, lambda *entry: said.append(entry), hold_back_s), said


def joints(contract: Any, stamp_ns: int) -> bytes:
    return serialize(make_example_message(contract.inputs[0], stamp_ns), JOINTS)


def stamps(path: Path) -> list[int]:
    return [m.receive_ns for m in bags.read_messages(path, ["/JointState"])]


def test_messages_of_a_new_episode_that_precede_the_news_go_to_its_bag(tmp_path: Path, make_contract: Any) -> None:
    contract = make_contract(JOINTS)
    record, _ = recorder(tmp_path, contract, hold_back_s=30.0)
    for stamp in (1, 2, 3):
        record.record(0, joints(contract, stamp), stamp)
    first = record.start({"episode": 1}, 3, begin_ns=2)
    for stamp in (4, 10):
        record.record(0, joints(contract, stamp), stamp)
    second = record.start({"episode": 2}, 10, begin_ns=10, previous={"success": True})
    record.record(0, joints(contract, 5), 11)  # late, of the first
    record.record(0, joints(contract, 12), 12)
    record.close()
    assert stamps(first.result()) == [2, 3, 4]
    assert stamps(second.result()) == [10, 12]
    facts = json.loads((first.result() / "episode.json").read_text())
    assert (facts["episode"], facts["success"], facts["started_ns"]) == (1, True, 3)


def test_messages_between_episodes_are_not_kept_but_what_still_holds_is_repeated(
    tmp_path: Path, make_contract: Any
) -> None:
    contract = make_contract(JOINTS)
    record, said = recorder(tmp_path, contract)
    word = bags.serialize(bags.typestore().types["std_msgs/msg/String"]("push"), "std_msgs/msg/String")
    record.record(1, word, 1)
    record.record(0, joints(contract, 2), 2)
    paths = []
    for begin in (10, 20):
        record.start({}, begin)
        paths.append(record.stop({"success": False}).result())
    assert record.stop({}).result() is None
    record.close()
    for path, begin in zip(paths, (10, 20), strict=True):
        assert [(m.topic, m.receive_ns) for m in bags.read_messages(path)] == [("/instruction", begin)]
    assert [path.name for path in paths] == ["episode_000000", "episode_000001"]
    assert ("warning", f"{paths[0]}: nothing was received on /JointState during the episode") in said


def test_of_a_latched_topic_the_last_message_holds_and_static_transforms_add_up(
    tmp_path: Path, make_contract: Any
) -> None:
    qos = make_contract(JOINTS).inputs[0].qos
    topics = [
        RecordedTopic("/instruction", "std_msgs/msg/String", qos, stamped=False, latched=True),
        RecordedTopic("/robot/tf_static", "std_msgs/msg/String", qos, stamped=False, latched=True, adds_up=True),
    ]
    record = EpisodeRecorder(tmp_path, make_contract(JOINTS), topics, lambda *_: None)
    for index in (0, 1):
        for word in ("one", "two", "one"):
            raw = bags.serialize(bags.typestore().types["std_msgs/msg/String"](word), "std_msgs/msg/String")
            record.record(index, raw, 1)
    path = record.start({}, 10).result()
    record.close()
    said: dict[str, list[str]] = {}
    for message in bags.read_messages(path):
        said.setdefault(message.topic, []).append(bags.deserialize(message.raw, message.type).data)
    assert said == {"/instruction": ["one"], "/robot/tf_static": ["one", "two"]}


def test_a_discarded_episode_leaves_nothing_behind(tmp_path: Path, make_contract: Any) -> None:
    record, _ = recorder(tmp_path, make_contract(JOINTS))
    path = record.start({}, 1).result()
    assert record.stop({}, discard=True).result() == path
    record.close()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_in_the_middle_is_reported_once_and_the_recorder_lives(
    tmp_path: Path, make_contract: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = make_contract(JOINTS)
    record, said = recorder(tmp_path, contract)

    def full(*_: Any) -> None:
        raise DatasetError("bag: cannot be written: No space left on device")

    record.start({}, 1).result()
    with monkeypatch.context() as patched:
        patched.setattr(bags.BagWriter, "write", full)
        for stamp in (2, 3):
            record.record(0, joints(contract, stamp), stamp)
        with pytest.raises(DatasetError, match="No space left"):
            record.stop({}).result()
    assert [severity for severity, _ in said].count("error") == 2  # when it happened, and that the episode is lost
    assert record.start({}, 5).result().is_dir()
    record.close()
