"""A checkpoint says whose parts it uses, and is refused by the name of the package where they are not."""

import json

import pytest
from torch import nn

from vla_ros.checkpoint import load_checkpoint
from vla_ros.checkpoint.checksums import folder_checksums, metadata_text, read_metadata
from vla_ros.data_types import CheckpointError, ConfigError
from vla_ros.networks import ConvStack
from vla_ros.policies.examples import make_example_batch
from vla_ros.registry import ENCODERS, HEADS, OBJECTIVES, Owner
from vla_ros.registry import registry as registry_module

FRONT, STATE = "observation.images.front", "observation.state"


class Tiny(ConvStack):
    """A backbone of another package."""


def wide_head(input_dim, hidden_dims, output_dim, dropout):
    return nn.Linear(input_dim, output_dim)


@pytest.fixture
def installed(monkeypatch):
    """Let a backbone and a head be those of the package tiny-nets."""
    monkeypatch.setattr(registry_module, "owner_of_module", lambda _: Owner("tiny-nets", "2.1"))
    monkeypatch.setitem(ENCODERS, "tiny", Tiny)
    monkeypatch.setitem(HEADS, "wide", wide_head)


def test_a_checkpoint_of_our_own_parts_names_no_package(folder):
    assert "parts" not in json.loads((folder / "metadata.json").read_text())


def test_a_checkpoint_names_the_package_of_every_foreign_part_and_its_card_too(installed, save):
    folder = save(inputs=(FRONT, STATE), backbone="tiny", head="wide")
    parts = json.loads((folder / "metadata.json").read_text())["parts"]
    assert parts == [
        {"kind": "encoders", "name": "tiny", "package": "tiny-nets", "version": "2.1"},
        {"kind": "heads", "name": "wide", "package": "tiny-nets", "version": "2.1"},
    ]
    assert "- `tiny-nets` 2.1: tiny (encoders), wide (heads)" in (folder / "README.md").read_text()
    assert isinstance(load_checkpoint(folder).policy.head, nn.Linear)


def test_without_the_package_the_error_says_which_to_install(installed, save):
    folder = save(inputs=(FRONT, STATE), backbone="tiny")
    del ENCODERS["tiny"]
    with pytest.raises(
        CheckpointError,
        match=r"uses the backbone 'tiny' of tiny-nets 2\.1, which is not installed here; pip install "
        r"tiny-nets==2\.1",
    ):
        load_checkpoint(folder)
    ENCODERS["tiny"] = Tiny


def test_another_packages_part_of_the_same_name_is_refused(installed, save, monkeypatch):
    folder = save(inputs=(FRONT, STATE), backbone="tiny")
    del ENCODERS["tiny"]
    monkeypatch.setattr(registry_module, "owner_of_module", lambda _: Owner("other-nets", "1.0"))
    ENCODERS["tiny"] = ConvStack
    with pytest.raises(CheckpointError, match=r"'tiny' of tiny-nets 2\.1, but here other-nets 1\.0 provides one"):
        load_checkpoint(folder)


def test_another_version_of_the_package_loads_with_a_warning(installed, save, monkeypatch, caplog):
    folder = save(inputs=(FRONT, STATE), backbone="tiny")
    del ENCODERS["tiny"]
    monkeypatch.setattr(registry_module, "owner_of_module", lambda _: Owner("tiny-nets", "3.0"))
    ENCODERS["tiny"] = Tiny
    load_checkpoint(folder)
    assert "'tiny' of tiny-nets 2.1, and here it is of version 3.0" in caplog.text


@pytest.mark.parametrize(
    "parts",
    [
        "tiny",
        [3],
        [{"kind": "encoders"}],
        [{"kind": "encoders", "name": 3, "package": "a", "version": "1"}],
        [{"kind": "encoders", "name": "a", "package": "b", "version": "1", "more": "2"}],
    ],
)
def test_damaged_parts_are_one_sentence(folder, parts):
    with pytest.raises(
        CheckpointError, match=r"metadata\.json: parts must be a list of kind, name, package and version"
    ):
        load_checkpoint(with_parts(folder, parts))


def test_parts_of_a_stranger_make_a_short_sentence(folder):
    part = {"kind": "policies", "name": "n" * 10_000, "package": "p\n" * 10_000, "version": "1"}
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(with_parts(folder, [part] * 20))
    assert len(str(caught.value)) < 3000
    assert "\n" not in str(caught.value)


def test_a_kind_of_part_of_a_later_version_is_named(folder):
    part = {"kind": "brains", "name": "a", "package": "b", "version": "1"}
    with pytest.raises(CheckpointError, match="uses a 'brains', a kind of part that this version does not know"):
        load_checkpoint(with_parts(folder, [part]))


def test_an_objective_that_returns_no_loss_is_one_sentence(save, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "odd", lambda predicted, *_, **__: predicted)
    policy = load_checkpoint(save(hidden_dims=[8], objective="odd")).policy
    with pytest.raises(ConfigError, match=r"objective 'odd' returned shape .*expected a loss, a tensor of no axes"):
        policy.compute_loss(make_example_batch(policy.config))


def with_parts(folder, parts):
    """Write parts into a checkpoint, its checksums right."""
    file = folder / "metadata.json"
    metadata = {**read_metadata(file), "parts": parts}
    file.write_text(metadata_text(metadata, folder_checksums(folder)))
    return folder
