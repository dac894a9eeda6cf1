"""What the contract's hash covers: every field, unless it is declared to mean nothing for recorded data."""

import json
import logging
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.contract import (
    InputSpec,
    RobotContract,
    contract_differences,
    is_hash_of,
    load_contract,
    parse_contract,
)
from vla_ros.contract.hashing import meaning
from vla_ros.schema import fields_of

ROOT = Path(__file__).resolve().parents[2]
SAWYER = ROOT / "config" / "robots" / "metaworld_sawyer.yaml"
POSE_FIELDS = [f"pose.position.{axis}" for axis in "xyz"] + [f"pose.orientation.{axis}" for axis in "xyzw"]


@pytest.fixture
def content() -> Any:
    return yaml.safe_load(SAWYER.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def sawyer() -> RobotContract:
    return load_contract(SAWYER)


def set_at(content: Any, *place: str | int, value: Any) -> Any:
    holder = content
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("inputs", 0, "topic"), "/other/image"),
        (("inputs", 0, "qos"), {"reliability": "reliable", "depth": 2}),
        (("inputs", 0, "max_age_s"), 1.0),
        (("inputs", 0, "required"), False),
        (("inputs", 0, "on_missing"), "hold"),
        (("max_wait_s",), 0.01),
        (("control_rate_hz",), 100),
        (("action", "limits", "max_speed"), 0.1),
        (("action", "limits", "upper"), [0.01, 0.01, 0.01, 1.0]),
        (("action", "past_end"), "stop"),
        (("action", "record", "topic"), "/teleop"),
        (("action", "sinks"), [{"topic": "/a", "type": "vla_ros_msgs/msg/EndEffectorAction"}]),
        (("instruction", "default"), "do something else"),
        (("goal", "topic"), "/other/goal"),
        (("goal", "camera"), "observation.images.wrist"),
        (("goal",), None),
        (("action", "unsent"), []),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_the_hash_ignores_what_gives_the_numbers_no_meaning(
    content: Any, sawyer: RobotContract, place: tuple[str | int, ...], value: Any
) -> None:
    assert parse_contract(set_at(content, *place, value=value), "robot.yaml").hash == sawyer.hash


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("robot_type",), "another_robot"),
        (("fps",), 10),
        (("inputs", 1, "key"), "observation.images.top"),
        (("inputs", 0, "type"), "sensor_msgs/msg/CompressedImage"),
        (("inputs", 0, "image", "width"), 96),
        (("inputs", 0, "image", "crop"), [0, 0, 10, 10]),
        (("inputs", 0, "alignment"), {"method": "nearest"}),
        (("inputs", 4, "joints"), [f"right_j{index}" for index in (1, 0, 2, 3, 4, 5, 6)]),
        (("inputs", 4, "field"), "velocity"),
        (("inputs", 2, "fields"), ["pose.position.y", "pose.position.x", "pose.position.z"]),
        (("inputs", 5, "window", "samples"), 5),
        (("inputs", 6, "points", "count"), 180),
        (("action", "names"), ["dy", "dx", "dz", "gripper"]),
        (("action", "units"), ["mm", "mm", "mm", "1"]),
        (("action", "gripper", "closed"), 0.5),
        (("inputs", 0, "frame"), "other_frame"),
        (("inputs", 3, "frame"), "gripper"),
        (("inputs", 0, "alignment"), {"timeline": "receive"}),
        (("action", "record", "alignment"), {"method": "nearest"}),
        (("action", "record", "alignment"), {"timeline": "receive"}),
        (
            ("action", "record"),
            {
                "topic": "/demonstration/action",
                "type": "std_msgs/msg/Float64MultiArray",
                "alignment": {"timeline": "receive"},
                "max_age_s": 0.1,
            },
        ),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_the_hash_changes_with_what_gives_the_numbers_their_meaning(
    content: Any, sawyer: RobotContract, place: tuple[str | int, ...], value: Any
) -> None:
    assert parse_contract(set_at(content, *place, value=value), "robot.yaml").hash != sawyer.hash


def test_a_motion_in_the_tool_frame_has_another_hash_and_the_name_of_that_frame_alone_has_not(
    content: Any, sawyer: RobotContract
) -> None:
    content["tool_frame"] = "tool0"
    assert parse_contract(content, "robot.yaml").hash == sawyer.hash
    content["inputs"][2].update(fields=POSE_FIELDS, names=[*content["inputs"][2]["names"], *"xyzw"])
    with_orientation = parse_contract(content, "robot.yaml").hash
    content["action"]["frame"] = "tool0"
    assert parse_contract(content, "robot.yaml").hash != with_orientation


def test_the_order_of_joined_streams_is_part_of_the_hash(content: Any, sawyer: RobotContract) -> None:
    content["inputs"][2], content["inputs"][3] = content["inputs"][3], content["inputs"][2]
    assert parse_contract(content, "robot.yaml").hash != sawyer.hash


def test_the_hash_is_sixteen_hexadecimal_digits_and_the_same_at_every_reading(sawyer: RobotContract) -> None:
    assert sawyer.hash == load_contract(SAWYER).hash
    assert len(sawyer.hash) == 16
    assert int(sawyer.hash, 16) > 0


def test_the_hashes_of_the_shipped_robot_are_those_that_its_data_carries(sawyer: RobotContract) -> None:
    # checkpoints and datasets hold them: when one of these changes, HASH_VERSION must
    assert (sawyer.hash, sawyer.hash_v1) == ("c3f4210fb2a62c0b", "331758b1f8ba21a3")


def leaves(value: Any, place: tuple[str | int, ...] = (), counts: bool = True) -> Any:
    """Yield place, value and whether it counts of every scalar of a contract."""
    if is_dataclass(value) and not isinstance(value, type):
        for entry in fields_of(type(value)):
            yield from leaves(getattr(value, entry.name), (*place, entry.name), counts and not entry.about.unhashed)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index), counts)
    else:
        yield place, value, counts


def changed(value: Any, place: tuple[str | int, ...], new: Any) -> Any:
    """Return a contract with one scalar replaced."""
    if not place:
        return new
    step, *rest = place
    if isinstance(step, int):
        return tuple(changed(item, tuple(rest), new) if i == step else item for i, item in enumerate(value))
    return replace(value, **{step: changed(getattr(value, step), tuple(rest), new)})


def test_every_value_of_a_contract_changes_its_hash_or_is_declared_not_to(sawyer: RobotContract) -> None:
    seen = 0
    for place, value, counts in leaves(sawyer):
        other: Any = not value if isinstance(value, bool) else "given"
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            other = value + type(value)(1)
        assert (changed(sawyer, place, other).hash != sawyer.hash) == counts, place
        seen += 1
    assert seen > 150


def test_a_field_that_is_added_with_a_default_changes_no_hash(sawyer: RobotContract) -> None:
    @dataclass(frozen=True)
    class LaterInput(InputSpec):
        added_later: str = "as before"

    stream = sawyer.inputs[0]
    given = {entry.name: getattr(stream, entry.name) for entry in fields(stream)}
    assert meaning(LaterInput(**given)) == meaning(stream)
    assert meaning(LaterInput(**given, added_later="otherwise")) != meaning(stream)


def test_a_field_written_out_at_its_default_and_one_left_out_hash_alike(content: Any, sawyer: RobotContract) -> None:
    content["inputs"][0]["alignment"] = {"method": "hold", "timeline": "header"}
    content["action"]["record"]["alignment"] = {}
    content["action"]["rotation"] = "none"
    content["inputs"][4]["field"] = "position"
    assert parse_contract(content, "robot.yaml").hash == sawyer.hash


def test_version_1_did_not_see_what_version_2_sees(content: Any, sawyer: RobotContract) -> None:
    content["action"]["record"]["alignment"] = {"timeline": "receive"}
    content["inputs"][0]["frame"] = "elsewhere"
    other = parse_contract(content, "robot.yaml")
    assert (other.hash_v1 == sawyer.hash_v1, other.hash == sawyer.hash) == (True, False)
    was, now = (meaning(contract.action.record, defaults=True) for contract in (sawyer, other))
    assert contract_differences(sawyer, other) == [
        "observation.images.front frame was front_camera_optical_frame, now elsewhere",
        f"action record was {was}, now {now}",
    ]


def test_an_older_hash_is_recognised_and_said_to_be_old(sawyer: RobotContract, caplog: Any) -> None:
    with caplog.at_level(logging.WARNING):
        assert is_hash_of(sawyer.hash, sawyer, "here")
        assert not caplog.records
        assert not is_hash_of("0123456789abcdef", sawyer, "here")
        assert not caplog.records
        assert is_hash_of(sawyer.hash_v1, sawyer, "data/run")
    (word,) = caplog.messages
    assert word.startswith(f"data/run: contract hash {sawyer.hash_v1} is of version 1, ")
    assert word.endswith(f" it is {sawyer.hash} of version 2.")


def test_what_is_hashed_is_plain_data(sawyer: RobotContract) -> None:
    assert json.loads(json.dumps(meaning(sawyer))) == meaning(sawyer)
