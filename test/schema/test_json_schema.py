"""The JSON schemas for editors say of our files what the readers say: jsonschema, which is not ours, is the judge."""

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from vla_ros.cli.main import main
from vla_ros.cli.schema import FILES, schema_of
from vla_ros.data_types import ConfigError
from vla_ros.policies import policy_names
from vla_ros.policies.bc.config import BcConfig
from vla_ros.registry import ENCODERS, OBJECTIVES, POOLINGS, ObjectiveName
from vla_ros.schema import About, Checked
from vla_ros.schema.json_schema import json_schema
from vla_ros.schema.tables import table

CONFIG = Path(__file__).resolve().parents[2] / "config"
MODELS = CONFIG.parent / "models"


def shipped() -> list[tuple[str, Path]]:
    files = [("contract", path) for path in (*(CONFIG / "robots").glob("*.yaml"), *MODELS.glob("*/contract.yaml"))]
    files += [("recipe", path) for path in (CONFIG / "training").glob("*.yaml")]
    files += [("sim", CONFIG / "sim/metaworld_sawyer.yaml"), ("sim_mobile_base", CONFIG / "sim/mobile_base.yaml")]
    files += [("policy_node", CONFIG / "policy_node.yaml")]
    for path in (CONFIG / "policies").glob("*.yaml"):
        files.append((max((n for n in policy_names() if path.stem.startswith(n)), key=len), path))
    return sorted(files, key=str)


def complaints(name: str, content: Any) -> list[str]:
    return [error.message for error in Draft202012Validator(schema_of(name)).iter_errors(content)]


@pytest.mark.parametrize(("name", "path"), shipped(), ids=lambda value: getattr(value, "stem", value))
def test_every_shipped_file_is_valid_by_its_schema(name: str, path: Path) -> None:
    assert complaints(name, yaml.safe_load(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(("name", "path"), shipped(), ids=lambda value: getattr(value, "stem", value))
def test_a_misspelt_field_in_a_shipped_file_is_not(name: str, path: Path) -> None:
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    holder = content["policy_node"]["ros__parameters"] if name == "policy_node" else content
    holder["misspelt"] = 1
    assert any("misspelt" in message for message in complaints(name, content))


@pytest.mark.parametrize(
    ("name", "file", "place", "value"),
    [
        ("contract", "robots/metaworld_sawyer.yaml", ("fps",), 0),
        ("contract", "robots/metaworld_sawyer.yaml", ("fps",), "20"),
        ("contract", "robots/metaworld_sawyer.yaml", ("inputs", 0, "topic"), "camera"),
        ("contract", "robots/metaworld_sawyer.yaml", ("inputs", 0, "image", "height"), 0),
        ("contract", "robots/metaworld_sawyer.yaml", ("inputs", 0, "type"), "sensor_msgs/msg/Imag"),
        ("contract", "robots/metaworld_sawyer.yaml", ("action", "representation"), "displacment"),
        ("contract", "robots/metaworld_sawyer.yaml", ("action", "limits", "max_speed"), 0.0),
        ("contract", "robots/metaworld_sawyer.yaml", ("action", "limits", "workspace", "mim"), [0.0, 0.0, 0.0]),
        ("contract", "robots/metaworld_sawyer.yaml", ("action", "names"), "dx"),
        ("recipe", "training/smoke.yaml", ("optimiser",), {"lr": 0.0}),
        ("recipe", "training/smoke.yaml", ("batch_size",), 1.5),
        ("sim", "sim/metaworld_sawyer.yaml", ("settle_s",), -1.0),
        ("sim_mobile_base", "sim/mobile_base.yaml", ("drive", "mass"), 0.0),
        ("bc", "policies/bc_cnn.yaml", ("dropout",), 1.0),
        ("bc", "policies/bc_cnn.yaml", ("pooling",), "averge"),
        ("bc", "policies/bc_cnn.yaml", ("coordinates",), "sperical"),
        ("policy_node", "policy_node.yaml", ("policy_node", "ros__parameters", "chunk_mode"), "latets"),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_wrong_value_is_not_valid(name: str, file: str, place: tuple[str | int, ...], value: Any) -> None:
    content = yaml.safe_load((CONFIG / file).read_text(encoding="utf-8"))
    holder = content
    for step in place[:-1]:
        holder = holder[step]
    holder[place[-1]] = value
    assert complaints(name, content)


def test_a_record_is_one_topic_or_a_list_of_them_and_names_are_a_list_or_a_mapping() -> None:
    content = yaml.safe_load((CONFIG / "robots" / "metaworld_sawyer.yaml").read_text(encoding="utf-8"))
    action = content["action"]
    joints = {"topic": "/hand", "type": "sensor_msgs/msg/JointState", "max_age_s": 1.0}
    action["record"] = [action["record"], {**joints, "names": {"gripper": "finger"}}, {**joints, "names": ["gripper"]}]
    action["unsent"] = ["gripper"]
    assert complaints("contract", content) == []
    action["record"][1]["nams"] = ["gripper"]
    assert complaints("contract", content)


def test_names_of_parts_are_those_of_the_registry_also_of_other_packages() -> None:
    def names(option: str) -> Any:
        return schema_of("bc")["properties"][option]["enum"]

    assert names("backbone") == list(ENCODERS.names())
    assert names("pooling") == list(POOLINGS.names())
    ENCODERS["from_elsewhere"] = "elsewhere.encoders:Encoder"
    try:
        assert "from_elsewhere" in names("backbone")
        assert "from_elsewhere" not in table(BcConfig), "docs would differ from machine to machine"
    finally:
        del ENCODERS["from_elsewhere"]
    assert "from_elsewhere" not in names("backbone")
    assert names("backbone") == list(ENCODERS.names())


@dataclass(frozen=True, kw_only=True)
class _Nullable(Checked):
    objective: Annotated[ObjectiveName | None, About("Or none.")] = None


def test_a_name_of_a_part_that_may_be_null_may_be() -> None:
    objective = json_schema(_Nullable, "one")["properties"]["objective"]
    assert objective["anyOf"] == [{"enum": list(OBJECTIVES.names())}, {"type": "null"}]


@pytest.mark.parametrize("field", ["robot_type", "fps", "inputs", "action"])
def test_a_missing_field_is_not_valid(field: str) -> None:
    content = yaml.safe_load((CONFIG / "robots" / "metaworld_sawyer.yaml").read_text(encoding="utf-8"))
    del content[field]
    assert any(field in message for message in complaints("contract", content))


def test_a_recipe_that_extends_nothing_must_be_whole() -> None:
    assert complaints("recipe", {"extends": "smoke.yaml", "seed": 3}) == []
    assert complaints("recipe", {"seed": 3})


def described(schema: Any, place: str = "") -> Any:
    """Yield place and schema of every property."""
    for name, part in schema.get("properties", {}).items():
        yield f"{place}.{name}", part
        for holder in (part, part.get("items", {}), part.get("additionalProperties", {}), *part.get("anyOf", [])):
            if isinstance(holder, dict):
                yield from described(holder, f"{place}.{name}")


@pytest.mark.parametrize("name", [*FILES, *policy_names()])
def test_schemas_are_schemas_and_say_what_each_field_is_for(name: str) -> None:
    schema = schema_of(name)
    Draft202012Validator.check_schema(schema)
    structure = {".policy_node", ".policy_node.ros__parameters", ".policy_node.ros__parameters.use_sim_time"}
    undescribed = {place for place, part in described(schema) if "description" not in part}
    assert undescribed - structure <= {".action.limits.workspace"}
    assert copy.deepcopy(schema) == json.loads(json.dumps(schema))


def test_the_command_prints_it_and_writes_it(tmp_path: Path, capsys: Any) -> None:
    assert main(["schema", "contract"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert main(["schema", "contract", "--output", str(tmp_path / "contract.json")]) == 0
    assert json.loads((tmp_path / "contract.json").read_text(encoding="utf-8")) == printed == schema_of("contract")


def test_an_unknown_kind_of_file_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"schema 'contact' is not one of .*Did you mean 'contract'\?"):
        schema_of("contact")
