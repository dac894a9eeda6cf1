import struct
from typing import Any

import numpy as np
import pytest

from vla_ros.data_types import DecodeError
from vla_ros.messages import cdr
from vla_ros.messages.message_types import deserialize, serialize, typestore

LITTLE = b"\0\1\0\0"
NAMES = cdr.Layout(cdr.Message((("name", cdr.Sequence(cdr.Text())),)))
NUMBERS = cdr.Layout(cdr.Message((("label", cdr.Text()), ("values", cdr.Sequence(cdr.Number(8))))))


def check(layout: cdr.Layout, body: bytes, prefix: bytes = LITTLE) -> None:
    cdr.check(prefix + body, layout, "a/msg/B")


def text(content: bytes) -> bytes:
    return struct.pack("<I", len(content) + 1) + content + b"\0"


def test_numbers_are_aligned_to_their_size_from_behind_the_prefix() -> None:
    layout = cdr.Layout(cdr.Message((("a", cdr.Number(1)), ("b", cdr.Number(8)), ("c", cdr.Number(2)))))
    check(layout, bytes(18))
    with pytest.raises(DecodeError, match="they end before 'b'"):
        check(layout, bytes(15))


def test_a_length_that_the_bytes_cannot_hold_is_refused_by_field() -> None:
    sentence = r"'values' declares 4294967295 numbers of 8 bytes where 8 are left"
    with pytest.raises(DecodeError, match=sentence):
        check(NUMBERS, text(b"abc") + struct.pack("<I", 2**32 - 1) + bytes(12))
    with pytest.raises(DecodeError, match="'name' declares 1000 elements where 4996 bytes are left"):
        check(NAMES, struct.pack("<I", 1000) + bytes(4996))
    with pytest.raises(DecodeError, match="'name' declares 4294967295 characters where 20 bytes are left"):
        check(NAMES, struct.pack("<II", 1, 2**32 - 1) + bytes(20))


def test_an_empty_sequence_has_no_padding_behind_it() -> None:
    check(NUMBERS, text(b"abc") + struct.pack("<I", 0))
    check(NUMBERS, text(b"abc") + struct.pack("<I", 1) + bytes(12))


@pytest.mark.parametrize("content", [b"a\0b\0", b"abcd"])
def test_a_string_ends_with_its_only_zero_byte(content: bytes) -> None:
    with pytest.raises(DecodeError, match="'name' is not one string that ends with a zero byte"):
        check(NAMES, struct.pack("<II", 1, 4) + content)


def test_a_string_is_utf_8() -> None:
    check(NAMES, struct.pack("<I", 1) + text("Gelenk ß".encode()))
    with pytest.raises(DecodeError, match="'name' is not UTF-8"):
        check(NAMES, struct.pack("<I", 1) + text(b"\xff\xfe"))


def test_up_to_three_bytes_of_padding_may_follow() -> None:
    body = struct.pack("<I", 0)
    check(NAMES, body + bytes(3), b"\0\1\0\3")
    check(NAMES, body + bytes(3))
    with pytest.raises(DecodeError, match="4 bytes follow its last field"):
        check(NAMES, body + bytes(4))


def test_padding_that_the_options_announce_is_none_of_the_message() -> None:
    with pytest.raises(DecodeError, match="they end before the length of 'name'"):
        check(NAMES, struct.pack("<I", 0), b"\0\1\0\1")


@pytest.mark.parametrize("prefix", [b"", b"\0", b"\0\3\0\0", b"\1\1\0\0", b"\0\7\0\0"])
def test_other_than_plain_cdr_is_refused(prefix: bytes) -> None:
    with pytest.raises(DecodeError, match="they do not begin as plain CDR"):
        check(NAMES, struct.pack("<I", 0) if len(prefix) == 4 else b"", prefix)


def test_big_endian_lengths_are_read() -> None:
    check(NAMES, struct.pack(">II", 1, 2) + b"a\0", b"\0\0\0\0")


def test_neighbouring_numbers_are_one_step() -> None:
    layout = cdr.Layout(
        cdr.Message((("pose", cdr.Array(cdr.Number(8), 7)), ("covariance", cdr.Array(cdr.Number(8), 36))))
    )
    assert len(layout._steps) == 1
    check(layout, bytes(43 * 8))


def test_rclpy_and_rosbags_describe_the_types_alike() -> None:
    pytest.importorskip("rclpy")
    from vla_ros.contract.types import ACTION_SOURCES, INPUT_TYPES
    from vla_ros.messages import message_types, rclpy_deserialize

    for type_name in {*INPUT_TYPES, *ACTION_SOURCES}:
        assert rclpy_deserialize._message(type_name) == message_types._message(typestore(), type_name)


def joint_names(count: int) -> bytes:
    """A JointState that declares names for which there are only zeros."""
    types = typestore().types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](1, 0), "")
    raw = serialize(types["sensor_msgs/msg/JointState"](header, [], *[np.empty(0)] * 3), "sensor_msgs/msg/JointState")
    at = len(raw) - 16
    return raw[:at] + struct.pack("<I", count) + bytes(count)


def test_rclpy_is_not_asked_to_make_room_for_names_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy")
    from vla_ros.messages import rclpy_deserialize

    asked: list[Any] = []
    monkeypatch.setattr(rclpy_deserialize, "deserialize_message", lambda *arguments: asked.append(arguments))
    for read in (rclpy_deserialize.deserialize, deserialize):
        with pytest.raises(DecodeError, match="'name' declares 100000 elements where 100000 bytes are left"):
            read(joint_names(100_000), "sensor_msgs/msg/JointState")
    assert not asked
