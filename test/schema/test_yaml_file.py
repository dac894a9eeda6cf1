"""YAML of strangers costs no more time, memory or words than its own size."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from vla_ros.bags.metadata import read_metadata
from vla_ros.contract import load_contract, parse_contract
from vla_ros.data_types import ConfigError, ContractError, DatasetError, UserError
from vla_ros.schema import load_yaml, parse_yaml
from vla_ros.schema.yaml_file import MAX_BYTES, MAX_DEPTH
from vla_ros.sim.metaworld.config import load_sim_config
from vla_ros.training import load_recipe

SAWYER = Path(__file__).resolve().parents[2] / "config" / "robots" / "metaworld_sawyer.yaml"
LONGEST = 600


def bomb(levels: int) -> str:
    """Return YAML of `levels` lines that unfolds to ten to their power."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def merge_bomb(levels: int) -> str:
    """Return YAML whose merge keys copy ten times as many fields at every level."""
    lines = ["a0: &a0 {x: 1}"] + [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def read(text: str) -> Any:
    return parse_yaml(text, "file.yaml", ConfigError)


@pytest.mark.parametrize("text", [bomb(10), merge_bomb(10), bomb(300)], ids=["aliases", "merges", "endless"])
def test_aliases_that_unfold_without_bounds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: line \d+: its aliases unfold to more than 200000 values\.$"):
        read(text)


@pytest.mark.parametrize("reader", [load_contract, load_sim_config, load_recipe], ids=lambda reader: reader.__name__)
@pytest.mark.parametrize("text", [bomb(10), bomb(4) + "fps: *a3\n"], ids=["refused", "shown cut"])
def test_every_reader_answers_a_bomb_in_a_line(tmp_path: Path, reader: Any, text: str) -> None:
    path = tmp_path / "bomb.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        reader(path)
    assert len(str(caught.value)) < LONGEST + len(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("levels", [3, 10])
def test_the_metadata_of_a_bag_is_bounded_too(tmp_path: Path, levels: int) -> None:
    text = f"{bomb(levels)}rosbag2_bagfile_information: {{compression_mode: *a{levels - 1}}}\n"
    (tmp_path / "metadata.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError) as caught:
        read_metadata(tmp_path)
    assert len(str(caught.value)) < LONGEST + len(str(tmp_path))


def test_ordinary_aliases_and_merges_are_read() -> None:
    text = "common: &common {fps: 20}\nfirst: {<<: *common, name: a}\nsecond: *common\n"
    assert read(text) == {"common": {"fps": 20}, "first": {"fps": 20, "name": "a"}, "second": {"fps": 20}}


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
@pytest.mark.parametrize("depth", [MAX_DEPTH + 2, 5000])
def test_what_is_nested_too_deep_is_refused(opening: str, depth: int) -> None:
    closing = {"[": "]", "{a: ": "}", "- ": ""}[opening]
    with pytest.raises(ConfigError, match=r"^file\.yaml: .*(nested more than|not readable as YAML)") as caught:
        read(opening * depth + "1" + closing * depth)
    assert len(str(caught.value)) < LONGEST


def test_a_file_that_is_too_long_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("# " + "x" * MAX_BYTES, encoding="utf-8")
    with pytest.raises(ConfigError, match=f"holds {MAX_BYTES + 2} bytes, expected at most {MAX_BYTES}"):
        load_yaml(path, ConfigError)


@pytest.mark.parametrize("place", ["a: {}", "{}: a", "- [{}]"])
def test_half_a_character_is_refused_wherever_it_stands(place: str) -> None:
    with pytest.raises(ConfigError, match=r"^file\.yaml: line 2: '\\\\?ud800' is half a character and no text\.$"):
        read("\n" + place.replace("{}", '"\\ud800"'))


def contract_with(**changes: Any) -> dict[str, Any]:
    content = yaml.safe_load(SAWYER.read_text(encoding="utf-8"))
    for place, value in changes.items():
        holder = content
        *parents, last = place.split("__")
        for step in parents:
            holder = holder[int(step) if step.isdigit() else step]
        holder[int(last) if last.isdigit() else last] = value
    return content


@pytest.mark.parametrize(
    "changes",
    [
        {"fps": 10**400},
        {"fps": 10**5000},
        {"max_wait_s": 10**400},
        {"max_wait_s": -(10**5000)},
        {"inputs__0__image__height": 10**5000 * -1},
        {"inputs__0__type": "x" * 10**6},
        {"inputs__0__key": "x" * 10**6},
        {"inputs__0__topic": "/ " * 10**6},
        {"inputs__4__joints": ["j"] * 10**5},
        {"inputs__4__joints": [{"j": "x" * 10**6}]},
        {"inputs__2__names": ["x"] * 10**5},
        {"action__names": ["x" * 10**5] * 100},
        {"action__frame": "x" * 10**6},
        {"action__gripper__name": "x" * 10**6},
        {"action__limits__lower": [0.0] * 10**5},
        {"x" * 10**6: 1},
        {"goal__camera": "x" * 10**6},
        {"robot_type": "\x1b[2J" + "x" * 10**6},
        {"robot_type": "a\nb"},
        {"inputs__4__joints": ["right_j0", "\x00"]},
        {"inputs__0__frame": "camera\u202e"},
        {"inputs__0__\x1b[31m": 1},
    ],
    ids=lambda changes: str(next(iter(changes)))[:30],
)
def test_whatever_a_contract_says_its_complaint_is_one_bounded_printable_line(changes: dict[str, Any]) -> None:
    with pytest.raises(ContractError) as caught:
        parse_contract(contract_with(**changes), "robot.yaml")
    message = str(caught.value)
    assert message.startswith("robot.yaml: ")
    assert len(message) < 2000
    assert message.isprintable()


def test_an_instruction_may_have_several_lines() -> None:
    contract = parse_contract(contract_with(instruction__default="push\nthe puck\n"), "robot.yaml")
    assert contract.instruction.default == "push\nthe puck\n"
