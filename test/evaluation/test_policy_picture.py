"""`vla_ros policies draw` makes a picture of what a policy computes."""

from pathlib import Path

import pytest
from PIL import Image

from vla_ros.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
STATE = "observation.state"


@pytest.mark.parametrize("name", ["act_walkthrough_small", "grp_small", "rt1_small", "pi0_small", "flow_ar_small"])
def test_a_policy_with_tokens_is_drawn(name, tmp_path, capsys):
    picture = tmp_path / "drawn" / "picture.png"
    assert main(["policies", "draw", name, "--output", str(picture)]) == 0
    printed = capsys.readouterr().out
    assert f"{picture}:" in printed
    assert "state" in printed or "frame" in printed
    with Image.open(picture) as image:
        assert min(image.size) > 300
        assert len(set(image.convert("L").resize((64, 64)).getdata())) > 20  # something is in it


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bc_cnn"], "policy bc reads no sequence of tokens; there is nothing to draw"),
        (["bc_cnn", "--output", "picture.jpg"], "--output picture.jpg: expected the name of a .png file"),
        (["pi0"], "draw a smaller size, or the folder of a checkpoint"),
        (["pi0_smal"], "Did you mean 'pi0_small'"),
        ([str(ROOT / "models/metaworld_push_bc"), "--inputs", STATE], "--inputs: a checkpoint has its own; remove it"),
        ([str(ROOT / "models/metaworld_push_bc")], "policy bc reads no sequence of tokens"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["policies", "draw", *arguments]) != 0
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
