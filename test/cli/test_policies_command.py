import json
from pathlib import Path

import pytest

from vla_ros.cli.main import main
from vla_ros.evaluation.policy_description import architecture_of, shipped_options
from vla_ros.policies import policy_names

ROOT = Path(__file__).resolve().parents[2]
FRONT, STATE = "observation.images.front", "observation.state"


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # shipped files are found from anywhere


def described(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert main(["policies", "describe", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("policy", policy_names())
def test_json_says_everything_about_every_policy(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    name = next(stem for stem in shipped_options() if architecture_of(stem) == policy and stem.endswith("_small"))
    description = described(capsys, name)
    assert (description["name"], description["policy"]) == (name, policy)
    assert {*description} == {
        *("name", "policy", "summary", "options", "robot", "inputs", "outputs", "parameters", "flops", "goals"),
        *("n_obs_steps", "action_horizon", "n_action_steps", "objective", "config", "processors", "layout"),
    }
    assert {*description["outputs"]} == {"names", "units", "representation", "shape", "dtype", "bounded"}
    assert {*description["goals"]} == {"takes", "text", "can_take"}
    assert all({*entry} == {"key", "kind", "shape", "dtype", "required"} for entry in description["inputs"])
    assert all({*field} >= {"name", "type", "value", "from"} for field in description["config"])
    steps, parameters = description["n_obs_steps"], description["parameters"]
    shapes = {entry["key"]: entry["shape"] for entry in description["inputs"]}
    assert shapes[FRONT] == [steps, 3, 84, 84]
    assert shapes[STATE] == [steps, 4]
    assert description["outputs"]["shape"] == [description["action_horizon"], 4]
    assert description["outputs"]["units"] == ["m", "m", "m", "1"]
    assert sum(parameters.values()) == 2 * parameters["total"] > 0
    assert description["flops"]["first"] > 0
    assert description["objective"]


def test_options_contract_inputs_and_image_size_are_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("hidden_dims: [8]\n")
    arm = str(ROOT / "test/robots/test_arm.yaml")
    shipped = described(capsys, "bc", "--options", "mine.yaml", "--inputs", FRONT, STATE, "--image-size", "20", "30")
    assert [entry["shape"] for entry in shipped["inputs"]] == [[1, 3, 20, 30], [1, 4]]
    assert {field["name"]: field["value"] for field in shipped["config"]}["hidden_dims"] == [8]
    assert described(capsys, "bc", "--contract", arm)["robot"] != shipped["robot"]


def test_a_person_reads_numbers_names_and_units(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "describe", "bc_gru_small", "--inputs", STATE]) == 0
    printed = capsys.readouterr().out
    for text in (
        "vector, float32 [8, 4]",
        "dx [m], dy [m], dz [m], gripper",
        "bounded to [-1, 1]",
        "a tick later, with state",
        "[512, 512] (options), tuple[int, ...]",
    ):
        assert text in printed


def test_the_documented_example_is_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    command = "vla_ros policies describe rt1_small"
    example = (ROOT / "docs/add_a_policy.md").read_text().split(f"$ {command}\n")[1].split("```")[0]
    assert main(command.split()[1:]) == 0
    assert capsys.readouterr().out.startswith(example)


RELATIVE = """
output: out
dataset: {root: none, contract: CONTRACT}
inputs: [observation.images.overhead, observation.tool]
policy: {name: bc, overrides: {action_horizon: 8, backbone: cnn, text: null}}
normalisation: {image_size: [24, 32]}
processors:
  - name: relative_actions
    options:
      key: observation.tool
      action: {position: [x, y, z], rotation: [qx, qy, qz, qw]}
      measured:
        position: [pose.position.x, pose.position.y, pose.position.z]
        rotation: [pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w]
  - {name: rotation_form, options: {rotation: [qx, qy, qz, qw]}}
"""


def test_the_steps_of_a_recipe_are_listed_with_the_shapes_that_go_in_and_come_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = RELATIVE.replace("CONTRACT", str(ROOT / "test/robots/test_arm.yaml"))
    (tmp_path / "recipe.yaml").write_text(f"{text}epochs: 1\n")
    steps = described(capsys, "--recipe", "recipe.yaml")["processors"]
    assert [step["name"] for step in steps] == ["relative_actions", "rotation_form", "resize", "normalise"]
    assert steps[1]["before"]["action"] == [8, 7]
    assert steps[1]["after"]["action"] == steps[3]["after"]["action"] == [8, 9]
    assert steps[3]["after"]["observation.images.overhead"] == [1, 3, 24, 32]
    assert main(["policies", "describe", "--recipe", "recipe.yaml"]) == 0
    printed = capsys.readouterr().out
    assert "2 rotation_form     action: qx, qy, qz, qw from quaternion to rot6d; action [8, 7] → [8, 9]" in printed
    assert "action by symmetric" in printed  # as its loss takes lengths


@pytest.mark.parametrize("arguments", [[], ["bc", "--recipe", "r.yaml"], ["--recipe", "r.yaml", "--options", "o.yaml"]])
def test_a_policy_or_a_recipe_is_described(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "describe", *arguments]) == 2
    assert "give a policy's NAME, with --options if you like, or --recipe FILE" in capsys.readouterr().err


def test_what_could_not_be_counted_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("vla_ros.evaluation.flops.LARGEST_WITH_WEIGHTS", 100)
    assert main(["policies", "describe", "rt1_small"]) == 0
    assert "not counted  it decides by its numbers what to compute" in capsys.readouterr().out


def test_the_list_names_options_files_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["policies", "list"]) == 0
    printed = capsys.readouterr().out
    assert "pi0_small" in printed
    assert all(name in printed for name in policy_names())


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["pi0_smal"], "Did you mean 'pi0_small'?"),
        (["bc", "--inputs", "observation.stat"], "Did you mean 'observation.state'?"),
        (["bc", "--options", "none.yaml"], "none.yaml: no such file"),
        (["bc", "--contract", "none.yaml"], "none.yaml: no such file"),
        (["grp"], "resize images with normalisation.image_size"),
    ],
)
def test_what_is_misspelt_or_does_not_fit_is_one_sentence(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policies", "describe", *arguments]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert error.count("\n") == 1
