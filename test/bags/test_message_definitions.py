"""Definitions of strangers: what every message needs is read, and nothing keeps the parser busy."""

import pytest
from rosbags.interfaces import MessageDefinition, MessageDefinitionFormat

from vla_ros.data_types import DatasetError
from vla_ros.messages.message_types import deserialize_with, store_for


def idl(constant: str, member: str = "long x;") -> str:
    return f"module a {{ module msg {{ {constant} struct B {{ {member} }}; }}; }};"


def use(form: MessageDefinitionFormat, text: str) -> None:
    store_for("a/msg/B", MessageDefinition(form, text)).get_msgdef("a/msg/B")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (idl("const unsigned long K = 1 << 30000000000;"), "write constants as numbers"),
        (idl("const unsigned long K = 1 << 40 << 40 << K;"), "write constants as numbers"),
        (idl("const long A = 99999; const long B = A * A;"), "write constants as numbers"),
        (idl(f"const unsigned long K = {'(' * 14}1{')' * 14};"), "nested more than 1 deep"),
        (idl(f"const unsigned long K = {'(' * 5000}1{')' * 5000};"), "nested more than 1 deep"),
        (idl("".join(f"const long K{i} = (1);" for i in range(400))), "more constants than any message"),
        (idl("const long K = " + "9" * 5000 + ";"), "more than 20 digits"),
        (idl("const long K = " + "-" * 500 + "1;"), "not readable"),
        (idl("typedef Q Q;", "Q x;"), "not readable"),
        (idl("typedef Q R; typedef R Q;", "Q x;"), "not readable"),
        (idl("", "B x;"), "contains itself"),
        (idl("", "long x[999999999];"), r"the array a/msg/B\.x has 999999999 elements"),
        (idl("", "string x[100000];"), "more than 20000 fields"),
        (idl("struct C0 { long x; };" + "".join(f"struct C{i} {{ C{i - 1} x; C{i - 1} y; }};" for i in range(1, 30)),
             "C29 x;"), "more than 20000 fields"),
        ("module a { " * 500, "nested more than 12 deep"),
        (idl("", "long x;" * 60_000), "more than 300000"),
        (idl("", "Absent x;"), "is defined nowhere"),
    ],
)  # fmt: skip
def test_idl_that_no_message_needs_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence) as caught:
        use(MessageDefinitionFormat.IDL, text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("B x\n", "contains itself"),
        ("float64[99999999999] x\n", "elements"),
        ("string[100000] x\n", "more than 20000 fields"),
        ("int32 X=" + "9" * 5000 + "\n", "more than 20 digits"),
        ("a/" * 50_000 + "B x\n", "is defined nowhere"),
        ("float32[ x\n", "not readable"),
    ],
)
def test_msg_that_no_message_needs_is_refused_in_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(DatasetError, match=sentence) as caught:
        use(MessageDefinitionFormat.MSG, text)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["a/msg/B'); import os; ('", "B", "a/msg/" + "x" * 5000 + "!", ""])
def test_a_type_s_name_is_an_identifier(name: str) -> None:
    with pytest.raises(DatasetError, match="no name of a ROS type"):
        store_for(name, MessageDefinition(MessageDefinitionFormat.MSG, "int32 x\n"))


def test_what_interface_generators_write_is_read() -> None:
    text = """
    // generated from rosidl
    module a { module msg { module B_Constants {
      @verbatim (language="comment", text="of (many) << kinds * ((((")
      const uint8 KIND = 1 << 3;
      const float G = 9.81;
    };
    typedef double double__9[9];
    @verbatim (language="comment", text="a thing")
    struct B { @unit (value="m") double x; double__9 covariance; sequence<long, 3> some; sequence<string> names; };
    }; };
    """
    store = store_for("a/msg/B", MessageDefinition(MessageDefinitionFormat.IDL, text))
    assert [name for name, _ in store.fielddefs["a/msg/B"][1]] == ["x", "covariance", "some", "names"]
    assert store.types["a/msg/B"].KIND == 8


def test_types_that_a_definition_does_not_carry_are_this_distribution_s() -> None:
    definition = MessageDefinition(MessageDefinitionFormat.MSG, "std_msgs/Header header\nfloat32 range\n")
    store = store_for("sensor_msgs/msg/Range", definition)
    raw = b"\0\1\0\0" + bytes(8) + b"\1\0\0\0\0\0\0\0" + b"\0\0\x80\x3f"
    assert deserialize_with(store, raw, "sensor_msgs/msg/Range").range == 1.0
