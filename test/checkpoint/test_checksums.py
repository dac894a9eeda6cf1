"""What was saved is what is loaded: one changed bit anywhere in a checkpoint is noticed and named."""

import hashlib
import json
import logging
import random
import re
from pathlib import Path

import pytest

from vla_ros.checkpoint import load_checkpoint, replace_extra_file, save_checkpoint, seal_checkpoint
from vla_ros.cli.main import main
from vla_ros.data_types import CheckpointError

SHIPPED = Path(__file__).parents[2] / "models/metaworld_push_bc"
FILES = {"model.safetensors", "config.yaml", "processors.yaml", "processors.safetensors", "contract.yaml", "README.md"}


def flip(file: Path, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


def strip(folder: Path) -> None:
    """Make it as it was written before there were checksums."""
    file = folder / "metadata.json"
    content = json.loads(file.read_text())
    del content["checksums"], content["metadata_checksum"]
    file.write_text(json.dumps(content))


def test_metadata_holds_the_sha256_of_every_other_file_and_its_own_with_zeros_in_its_place(folder):
    text = (folder / "metadata.json").read_text()
    metadata = json.loads(text)
    assert set(metadata["checksums"]) == {*FILES, "note.txt"}
    for name, digest in metadata["checksums"].items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
    own = metadata["metadata_checksum"]
    assert own == hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest()


@pytest.mark.parametrize("name", sorted({*FILES, "metadata.json", "note.txt"}))
def test_one_flipped_bit_anywhere_is_refused_with_the_files_name(folder, name):
    file = folder / name
    whole = file.read_bytes()
    bits = random.Random(name).sample(range(8 * len(whole)), min(40, 8 * len(whole)))
    for bit in {0, 8 * len(whole) - 1, *bits}:
        flip(file, bit)
        with pytest.raises(CheckpointError, match=re.escape(name)) as raised:
            load_checkpoint(folder)
        assert "\n" not in str(raised.value)
        file.write_bytes(whole)
    load_checkpoint(folder)


def test_every_place_in_the_metadata_counts(folder):
    file = folder / "metadata.json"
    whole = file.read_bytes()
    for bit in range(0, 8 * len(whole), 29):  # 29 has no factor in common with 8: every position in a byte comes up
        flip(file, bit)
        with pytest.raises(CheckpointError, match=r"metadata\.json"):
            load_checkpoint(folder)
        file.write_bytes(whole)


def test_the_message_says_what_was_expected_what_was_found_and_what_to_do(folder):
    expected = hashlib.sha256((folder / "config.yaml").read_bytes()).hexdigest()
    flip(folder / "config.yaml", 100)
    found = hashlib.sha256((folder / "config.yaml").read_bytes()).hexdigest()
    sentence = rf"config.yaml: .* SHA-256 is {found}, expected {expected}; copy the whole folder again.*checkpoint seal"
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder)


def test_a_listed_file_that_is_gone_is_named_and_an_unlisted_one_is_nobodys_business(folder):
    (folder / "mine.txt").write_text("note")
    load_checkpoint(folder)
    (folder / "note.txt").unlink()
    with pytest.raises(CheckpointError, match=r"lacks note\.txt; copy the whole folder"):
        load_checkpoint(folder)


def test_a_checkpoint_without_checksums_loads_with_one_line_of_warning(folder, caplog):
    strip(folder)
    with caplog.at_level(logging.WARNING):
        load_checkpoint(folder)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert re.search(r"made: the checkpoint has no checksums.*checkpoint seal", caplog.messages[0])
    assert "\n" not in caplog.messages[0]


def test_a_checkpoint_with_checksums_loads_without_a_word(folder, caplog):
    load_checkpoint(folder)
    assert not caplog.records


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda m: m["checksums"].pop("config.yaml"), "checksums lacks config.yaml"),
        (
            lambda m: m["checksums"].update({"../elsewhere": "0" * 64}),
            r"'\.\./elsewhere'.*expected files of this folder",
        ),
        (lambda m: m["checksums"].update({"/etc/passwd": "0" * 64}), "'/etc/passwd'.*expected files of this folder"),
        (lambda m: m["checksums"].update({"note.txt": "abc"}), "'abc', expected .* 64 hexadecimal digits"),
        (lambda m: m["checksums"].update({"note.txt": 5}), "expected str, got 5"),
        (lambda m: m.update(checksums=[]), "checksums expected a mapping"),
        (lambda m: m.pop("checksums"), "checksums is required and missing"),
        (lambda m: m.pop("metadata_checksum"), "metadata_checksum is required and missing"),
        (lambda m: m.update(step=8), "metadata.json: not the file that was saved"),
    ],
)
def test_checksums_that_are_no_checksums_of_this_folder_are_refused(folder, change, sentence):
    file = folder / "metadata.json"
    metadata = json.loads(file.read_text())
    change(metadata)
    file.write_text(json.dumps(metadata, indent=2) + "\n")
    with pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[" * 100_000, "not readable as JSON"),
        ('{"format_version": ' + "9" * 5000 + "}", "not readable as JSON"),
        ('{"format_version": 1, "contract_hash": "a", "note": "\\ud800"}', r"lone surrogate '\\ud800'"),
        ('{"format_version": 1, "\\udfff": 1}', "lone surrogate"),
        ("[]", "expected a mapping"),
        ("null", "expected a mapping"),
    ],
    ids=["deep", "long", "surrogate", "surrogate_key", "list", "null"],
)
def test_hostile_metadata_is_one_line_and_exit_code_2(folder, capsys, text, sentence):
    (folder / "metadata.json").write_text(text)
    assert main(["checkpoint", "describe", str(folder)]) == 2
    error = capsys.readouterr().err
    assert re.search(rf"metadata\.json: .*{sentence}", error)
    assert error.count("\n") == 1
    assert len(error) < 1000


def test_control_characters_in_metadata_reach_no_terminal(folder, reseal, capsys):
    file = folder / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "note": "\x1b[2Jgone\nnext line"}))
    reseal(folder)
    assert main(["checkpoint", "describe", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "gone\\nnext line" in printed


def test_sealing_accepts_a_deliberate_change_and_says_what_changed(folder, capsys):
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("dropout: 0.3", "dropout: 0.0"))
    (folder / "note.txt").unlink()
    (folder / "more.txt").write_text("y")
    assert main(["checkpoint", "seal", str(folder)]) == 0
    assert "config.yaml, more.txt, note.txt" in capsys.readouterr().out
    assert load_checkpoint(folder).policy.config.dropout == 0.0
    assert seal_checkpoint(folder) == ()


def test_sealing_changes_nothing_but_the_checksums(folder):
    before = json.loads((folder / "metadata.json").read_text())
    others = {name: (folder / name).read_bytes() for name in FILES}
    strip(folder)
    assert set(seal_checkpoint(folder)) == {*FILES, "note.txt"}
    assert json.loads((folder / "metadata.json").read_text()) == before
    assert {name: (folder / name).read_bytes() for name in FILES} == others


def test_what_does_not_load_is_not_sealed(folder):
    config, metadata = folder / "config.yaml", folder / "metadata.json"
    config.write_text(config.read_text().replace("hidden_dims: [8]", "hidden_dims: [9]"))
    before = metadata.read_text()
    with pytest.raises(CheckpointError, match="not the weights of this configuration"):
        seal_checkpoint(folder)
    assert metadata.read_text() == before


def test_a_loaded_checkpoint_saved_again_has_checksums_of_its_own(folder, tmp_path):
    loaded = load_checkpoint(folder)
    again = save_checkpoint(tmp_path / "again", loaded.policy, loaded.processors, loaded.contract, loaded.metadata)
    assert "note.txt" not in load_checkpoint(again).metadata["checksums"]


def test_an_extra_file_is_replaced_with_its_checksum_and_nothing_else_changes(folder):
    before = {name: (folder / name).read_bytes() for name in FILES}
    replace_extra_file(folder, "note.txt", b"other")
    assert load_checkpoint(folder).metadata["step"] == 7
    assert (folder / "note.txt").read_bytes() == b"other"
    assert {name: (folder / name).read_bytes() for name in FILES} == before
    assert [path.name for path in folder.parent.iterdir()] == ["made"]
    with pytest.raises(CheckpointError, match=r"no extra file 'config\.yaml' to replace"):
        replace_extra_file(folder, "config.yaml", b"")


def test_the_shipped_checkpoint_is_sealed(caplog):
    metadata = load_checkpoint(SHIPPED).metadata
    assert set(metadata["checksums"]) == {path.name for path in SHIPPED.iterdir()} - {"metadata.json"}
    assert not caplog.records
