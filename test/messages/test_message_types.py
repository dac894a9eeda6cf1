"""Every message type is whole: a decoder, a sample, documentation; and another package can add one."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.bags import Bag, BagWriter
from vla_ros.contract import parse_contract, types
from vla_ros.contract.types import AsInput, MessageType, message_types
from vla_ros.data_types import ConfigError, ContractError
from vla_ros.messages import decode_input, register_message
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.messages.samples import make_example_action, make_example_message
from vla_ros.registry import MESSAGES

ROOT = Path(__file__).resolve().parents[2]
DOCS = (ROOT / "docs" / "message_types.md").read_text(encoding="utf-8")
STAMP_NS = 12_345_678_901
TEXT = "std_msgs/msg/String"  # the instruction, which every contract has


@pytest.mark.parametrize("name", list(message_types()))
def test_a_type_has_documentation_and_something_that_it_can_be(name: str) -> None:
    row = message_types()[name]
    assert f"`{name}`" in DOCS, "run scripts/generate_message_docs.py"
    assert row.meaning in DOCS
    assert row.as_input or row.as_record or row.as_sink
    assert row.meaning.endswith(".")


def test_the_documentation_is_up_to_date() -> None:
    path = ROOT / "scripts" / "generate_message_docs.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.render() == DOCS, "run `make docs`"


@pytest.mark.parametrize("name", list(types.INPUT_TYPES))
def test_an_input_s_sample_is_a_message_of_its_type(name: str, make_contract: Any) -> None:
    contract = make_contract() if name == TEXT else make_contract(name)
    spec = next(spec for spec in contract.streams if spec.type == name)
    message = make_example_message(spec, STAMP_NS)
    decode_input(spec, message)
    assert serialize(message, name)
    assert hasattr(message, "header") == message_types()[name].has_header


def test_loading_a_contract_imports_no_decoder_and_no_bag_reader() -> None:
    code = (
        "import json, sys; from vla_ros.contract import load_contract; load_contract(sys.argv[1]);"
        "print(json.dumps([n for n in ('cv2', 'rosbags', 'rclpy', 'torch', 'sensor_msgs') if n in sys.modules]))"
    )
    contract = ROOT / "config" / "robots" / "metaworld_sawyer.yaml"
    done = subprocess.run(
        [sys.executable, "-c", code, str(contract)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []


def test_a_type_of_another_package_is_an_input_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(types, "_types", dict(message_types()))
    monkeypatch.setattr(MESSAGES, "_registered", dict(MESSAGES._registered))
    name = "acme_msgs/msg/Tactile"
    decode = AsInput("array", lambda spec, m, _: np.float32([m.cells[0]] * len(spec.names)), lambda *_: None)
    register_message(MessageType(name, "Pressure.", has_header=False, as_input=decode))
    contract = parse_contract(
        {
            "robot_type": "acme",
            "fps": 10,
            "inputs": [
                {
                    "key": "observation.touch",
                    "topic": "/touch",
                    "type": name,
                    "names": ["a", "b"],
                    "max_age_s": 0.1,
                    "alignment": {"timeline": "receive"},
                }
            ],
            "action": {
                "representation": "joint_position",
                "names": ["j"],
                "units": ["rad"],
                "record": {"topic": "/r", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.1},
                "sinks": [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}],
            },
        },
        "acme.yaml",
    )
    message = type("Message", (), {"cells": [2.5]})()
    np.testing.assert_array_equal(decode_input(contract.inputs[0], message), np.float32([2.5, 2.5]))
    with pytest.raises(ConfigError, match=r"'acme_msgs/msg/Tactile' cannot be .*test_message_types.* already"):
        register_message(MessageType(name, "Another.", as_input=decode))


ROW = """
from vla_ros.contract.types import AsInput, MessageType

ROW = MessageType("acme_msgs/msg/Tactile", "Pressure.", as_input=AsInput("array", lambda *_: None, lambda *_: None))
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Install a package acme with an entry point, and let message types be looked for again."""
    monkeypatch.setattr(types, "_types", dict(message_types()))

    def make(entry_point: str) -> None:
        about = tmp_path / "acme-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[vla_ros.messages]\n{entry_point}\n")
        (tmp_path / "acme_rows.py").write_text(ROW)
        monkeypatch.syspath_prepend(str(tmp_path))
        types._load.cache_clear()

    yield make
    sys.modules.pop("acme_rows", None)
    types._load.cache_clear()


def test_an_installed_package_adds_a_type_by_an_entry_point(install: Callable[[str], None]) -> None:
    install("acme_msgs/msg/Tactile = acme_rows:ROW")
    assert message_types()["acme_msgs/msg/Tactile"].meaning == "Pressure."
    assert str(MESSAGES.entry("acme_msgs/msg/Tactile").owner) == "acme 1.0"


@pytest.mark.parametrize(
    ("entry_point", "sentence"),
    [
        (
            "acme_msgs/msg/Tactile = acme_gone:ROW",
            "'acme_msgs/msg/Tactile' of acme 1.0 (acme_gone:ROW) cannot be imported",
        ),
        ("acme_msgs/msg/Touch = acme_rows:ROW", "(acme_rows:ROW) is a row of acme_msgs/msg/Tactile"),
        ("acme_msgs/msg/Tactile = acme_rows:AsInput", "acme_rows:AsInput is no instance of"),
    ],
)
def test_a_broken_package_is_named_and_the_other_types_stay(
    install: Callable[[str], None], caplog: pytest.LogCaptureFixture, entry_point: str, sentence: str
) -> None:
    install(entry_point)
    assert "sensor_msgs/msg/Image" in message_types()
    assert sentence in caplog.text


def test_a_type_that_another_package_claims_is_an_error_that_names_both(install: Callable[[str], None]) -> None:
    install("sensor_msgs/msg/Image = acme_rows:ROW")
    with pytest.raises(ConfigError, match=r"'sensor_msgs/msg/Image' is provided by vla_ros .* and by acme 1\.0"):
        message_types()


def test_types_of_packages_that_rosbags_does_not_know_are_read_where_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {
        "acme_msgs/msg/Tactile": "std_msgs/Header header\nfloat32[] cells\nacme_parts/Place place\n",
        "acme_msgs/msg/Broken": "gone_msgs/Nothing nothing\n",
        "acme_parts/msg/Place": "geometry_msgs/Point at\n",
    }
    for name, text in texts.items():
        package, _, kind = name.split("/")
        folder = tmp_path / "share" / package / "msg"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{kind}.msg").write_text(text, encoding="utf-8")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    monkeypatch.setattr(types, "_types", dict(message_types()))
    monkeypatch.setattr(MESSAGES, "_registered", dict(MESSAGES._registered))
    name = "acme_msgs/msg/Tactile"
    assert name not in typestore().fielddefs
    decode = AsInput("array", lambda _, m, __: np.float32(m.cells), lambda *_: None)
    register_message(MessageType(name, "Pressure.", as_input=decode))
    known = typestore()
    assert "acme_msgs/msg/Broken" not in known.fielddefs, "what it refers to is not installed"
    place = known.types["acme_parts/msg/Place"](known.types["geometry_msgs/msg/Point"](1.0, 2.0, 3.0))
    header = known.types["std_msgs/msg/Header"](known.types["builtin_interfaces/msg/Time"](1, 2), "finger")
    message = known.types[name](header, np.float32([4.0, 5.0]), place)
    np.testing.assert_array_equal(deserialize(serialize(message, name), name).cells, [4.0, 5.0])
    with BagWriter(tmp_path / "bag") as writer:
        writer.write("/touch", name, serialize(message, name), 1)
    with Bag(tmp_path / "bag") as bag:
        (read,) = list(bag.messages({"/touch"}))
        assert bag.deserialize(read.raw, name).place.at.z == 3.0


def test_an_unknown_type_names_the_nearest(make_contract: Any) -> None:
    with pytest.raises(ContractError, match=r"Did you mean 'sensor_msgs/msg/JointState'\?"):
        make_contract("sensor_msgs/msg/JointState", type="sensor_msgs/msg/JointStates")


def test_an_example_action_is_of_the_record_s_type(make_contract: Any) -> None:
    action = make_contract().action
    other = replace(action.record, type="sensor_msgs/msg/JointState")
    assert list(make_example_action(action, STAMP_NS, record=other).name) == list(action.names)
