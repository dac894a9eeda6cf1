"""Weights and sizes that no training writes are refused by name, before memory is taken for what they declare."""

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from vla_ros.checkpoint import load_checkpoint, weights
from vla_ros.checkpoint.tensor_files import name_of_not_finite
from vla_ros.data_types import ActionChunk, CheckpointError
from vla_ros.policies.bc import BcPolicy
from vla_ros.registry import POLICIES
from vla_ros.runtime.chunk_executor import chunk_problem

FRONT, STATE = "observation.images.front", "observation.state"


def edit_tensors(folder: Path, change: Callable[[dict], object], name: str = "model.safetensors") -> None:
    tensors = {key: value.clone() for key, value in load_file(folder / name).items()}
    change(tensors)
    save_file(tensors, folder / name)


def edit_header(file: Path, change: Callable[[dict], object]) -> None:
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def weight_of(folder: Path) -> str:
    return next(name for name, value in load_file(folder / "model.safetensors").items() if value.ndim == 2)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64])
def test_one_number_that_is_not_finite_is_found_wherever_it_is(tmp_path, dtype, value):
    for at in (0, 500, 1002):
        tensors = {"a": torch.ones(7, dtype=dtype), "b": torch.ones(1003, dtype=dtype), "n": torch.tensor(3)}
        tensors["b"][at] = value
        save_file(tensors, tmp_path / "x.safetensors")
        assert name_of_not_finite(tmp_path / "x.safetensors") == "b"


def test_the_largest_numbers_and_tensors_without_any_are_finite(tmp_path):
    kinds = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
    tensors = {
        str(kind): torch.tensor([torch.finfo(kind).max, torch.finfo(kind).min] * 9, dtype=kind) for kind in kinds
    }
    save_file({**tensors, "none": torch.zeros(0, 3)}, tmp_path / "x.safetensors")
    assert name_of_not_finite(tmp_path / "x.safetensors") == ""


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(folder, reseal, value):
    name = weight_of(folder)
    edit_tensors(folder, lambda tensors: tensors[name][0, 1:2].fill_(value))
    reseal(folder)
    with pytest.raises(CheckpointError, match=rf"model.safetensors: '{name}' holds numbers that are not finite"):
        load_checkpoint(folder)


def test_a_buffer_that_is_not_finite_is_refused_by_name(save, reseal):
    folder = save(inputs=("observation.images.front",), backbone="resnet18")
    name = next(name for name in load_file(folder / "model.safetensors") if name.endswith("running_var"))
    edit_tensors(folder, lambda tensors: tensors[name].fill_(torch.inf))
    reseal(folder)
    with pytest.raises(CheckpointError, match=rf"'{re.escape(name)}' holds numbers that are not finite"):
        load_checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int32])
def test_weights_of_another_type_are_refused_by_name(folder, reseal, dtype):
    name = weight_of(folder)
    edit_tensors(folder, lambda tensors: tensors.update({name: tensors[name].to(dtype)}))
    reseal(folder)
    with pytest.raises(
        CheckpointError, match=rf"not the weights .*: {name} is \w+ \[8, 4\], the policy's F32 \[8, 4\]"
    ):
        load_checkpoint(folder)


def test_a_type_changed_in_the_header_alone_is_refused(folder, reseal):
    name = weight_of(folder)
    edit_header(folder / "model.safetensors", lambda header: header[name].update(dtype="I32"))
    reseal(folder)
    with pytest.raises(CheckpointError, match=rf"{name} is I32 \[8, 4\], the policy's F32"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [10**10, 4]},
        {"shape": [2**63, 2**63]},
        {"shape": [-8, 4]},
        {"data_offsets": [0, 10**15]},
        {"dtype": "Q4"},
    ],
    ids=str,
)
@pytest.mark.parametrize("file", ["model.safetensors", "processors.safetensors"])
def test_a_header_that_declares_more_than_the_file_holds_is_damage_with_the_tensors_name(folder, reseal, change, file):
    name = weight_of(folder) if file.startswith("model") else "map/action/scale"
    edit_header(folder / file, lambda header: header[name].update(change))
    reseal(folder)
    with pytest.raises(CheckpointError, match=rf"{file}: damaged: .*\(tensor '{name}'\)"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t, name: t.pop(name), "it lacks {name}"),
        (lambda t, _: t.update(more=torch.ones(1)), "it has, and the policy has not, more"),
        (lambda t, name: t.update({name: t[name][:7]}), r"{name} is F32 \[7, 4\], the policy's F32 \[8, 4\]"),
    ],
)
def test_missing_surplus_and_misshapen_weights_are_named(folder, reseal, change, sentence):
    name = weight_of(folder)
    edit_tensors(folder, lambda tensors: change(tensors, name))
    reseal(folder)
    with pytest.raises(CheckpointError, match=sentence.format(name=name)):
        load_checkpoint(folder)


class Allocations(TorchDispatchMode):
    """The largest tensor made in memory, in bytes."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.device.type == "cpu":
            self.largest = max(self.largest, result.untyped_storage().nbytes())
        return result


STATED = (
    "not the weights of this configuration|must (all )?be |must divide|far more parts|cannot be built|finite number"
)
SMALL = {
    "bc": {"inputs": (FRONT, STATE), "hidden_dims": [8], "gru_hidden_dim": 4, "n_obs_steps": 2},
    "act": {"inputs": (FRONT,), "width": 16, "mlp_dim": 16, "n_heads": 2, "n_encoder_layers": 1, "n_decoder_layers": 1},
    "pi0": {
        "inputs": (FRONT, STATE),
        "action_horizon": 3,
        "objective": "diffusion",
        "vision": {"kind": "keypoints", "n_tokens": 2},
        "attention": {"depth": 1, "n_heads": 2, "n_kv_heads": 1, "head_dim": 8},
        "prefix_expert": {"width": 16, "mlp_dim": 16},
        "action_expert": {"width": 16, "mlp_dim": 16},
        "text": {"kind": "characters", "length": 4},
    },
}
FIELDS = [
    ("bc", "hidden_dims.0"),
    ("bc", "gru_hidden_dim"),
    ("bc", "n_obs_steps"),
    ("bc", "action_horizon"),
    *(("act", name) for name in ("width", "mlp_dim", "n_heads", "n_encoder_layers", "n_decoder_layers")),
    *(("pi0", f"attention.{name}") for name in ("depth", "n_heads", "n_kv_heads", "head_dim")),
    *(("pi0", name) for name in ("action_horizon", "flow_steps", "diffusion_train_steps", "action_expert.width")),
]


def put(content: dict, path: str, value: object) -> None:
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("."))
    for part in parents:
        content = content[part]
    content[last] = value


@pytest.mark.parametrize(("policy", "path"), FIELDS)
def test_sizes_that_the_weights_do_not_have_are_refused_before_memory_is_taken(save, reseal, monkeypatch, policy, path):
    monkeypatch.setattr(weights, "CALLS_PER_TENSOR", 20)  # for speed
    monkeypatch.setattr(weights, "SPARE_CALLS", 100)
    folder = save(policy, **SMALL[policy])
    config = folder / "config.yaml"
    good = config.read_text()
    before = (folder / "model.safetensors").stat().st_size
    for value in (-1, 10**5, 10**12, 10**400):
        content = yaml.safe_load(good)
        put(content["config"], path, value)
        config.write_text(yaml.safe_dump(content))
        reseal(folder)
        with Allocations() as made, pytest.raises(CheckpointError, match=STATED) as raised:
            load_checkpoint(folder)
        assert "allocate" not in str(raised.value)
        assert made.largest <= before


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ([30_000, 30_000], "an observation of n_obs_steps=2 would take 20.1 GiB"),
        ([10**6, 8], "image_size=.* must be 1×1 to"),
        ([10**400, 10**400], "image_size=.* must be 1×1 to"),
    ],
    ids=["large", "larger", "largest"],
)
def test_observations_that_no_memory_holds_are_refused(save, reseal, size, sentence):
    folder = save(**SMALL["bc"])
    for file, change in (
        ("processors.yaml", lambda content: content["options"].update(image_size=size)),
        ("config.yaml", lambda content: content["config"]["inputs"][FRONT].update(shape=[*size, 3])),
    ):
        content = yaml.safe_load((folder / file).read_text())
        change(content)
        (folder / file).write_text(yaml.safe_dump(content))
    reseal(folder)
    with Allocations() as made, pytest.raises(CheckpointError, match=sentence):
        load_checkpoint(folder)
    assert made.largest < 2**20


class Own(BcPolicy):
    """An architecture of another package; what it does when it is built stands in `also`."""

    name = "own"
    also: Callable[[torch.nn.Module], object]

    def __init__(self, config):
        super().__init__(config)
        type(self).also(self)


@pytest.fixture
def own(monkeypatch, save):
    """Save a checkpoint of an own architecture which does `at_save`, to be loaded while it does `at_load`."""
    monkeypatch.setitem(POLICIES, "own", Own)

    def made(at_save, at_load=None):
        monkeypatch.setattr(Own, "also", staticmethod(at_save), raising=False)
        folder = save("own", hidden_dims=[8])
        monkeypatch.setattr(Own, "also", staticmethod(at_load or at_save))
        return folder

    return made


def test_an_architecture_that_needs_numbers_to_be_built_loads(own):
    def read_numbers(policy):
        policy.rates = [rate.item() for rate in torch.linspace(0.0, 0.5, 3)]
        policy.rates += torch.ones(2).tolist() + list(torch.ones(2).numpy())

    assert load_checkpoint(own(read_numbers)).policy.rates == [0.0, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0]


def test_weights_that_share_a_tensor_load_and_go_on_sharing_it(own):
    def tie(policy):
        policy.one, policy.other = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        policy.other.weight = policy.one.weight

    policy = load_checkpoint(own(tie)).policy
    assert policy.one.weight is policy.other.weight


def test_tables_beside_the_weights_are_bounded_too(own):
    table = lambda policy: policy.register_buffer("table", torch.ones(1 << 30), persistent=False)
    with Allocations() as made, pytest.raises(CheckpointError, match="would take 4 GiB, but its weights are"):
        load_checkpoint(own(lambda _: None, table))
    assert made.largest < 2**20


def test_an_architecture_that_never_ends_to_build_itself_is_stopped_and_torch_is_as_before(own, monkeypatch):
    def endless(policy):
        while True:
            torch.nn.Linear(1, 1)

    folder = own(lambda _: None, endless)
    monkeypatch.setattr(weights, "CALLS_PER_TENSOR", 0)
    for spare in range(20, 32):  # whichever call is the last one
        monkeypatch.setattr(weights, "SPARE_CALLS", spare)
        with pytest.raises(CheckpointError, match=r"config.yaml: .*far more parts than the file of weights"):
            load_checkpoint(folder)
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    "error", [ZeroDivisionError("x"), MemoryError(), OverflowError("int too large"), KeyError("x")]
)
def test_whatever_a_config_makes_a_constructor_raise_is_one_sentence(own, error):
    def fail(policy):
        raise error

    with pytest.raises(CheckpointError, match=rf"config.yaml: cannot be built: {type(error).__name__}"):
        load_checkpoint(own(lambda _: None, fail))


def test_finite_weights_can_predict_what_is_not_finite(folder, reseal):
    def overflow(tensors):
        for name, value in tensors.items():
            even = torch.arange(value.shape[-1]) % 2 == 0
            value.copy_(torch.full(value.shape, 1e38) if name.endswith("bias") else torch.where(even, 1e30, -1e30))

    edit_tensors(folder, overflow)  # every hidden unit is 1e38, and the outputs are infinity less infinity
    reseal(folder)
    checkpoint = load_checkpoint(folder)
    raw = {STATE: np.ones((1, 1, 4), np.float32), "task": ["push"]}
    actions = checkpoint.policy.predict_action_chunk(checkpoint.processors.observation(raw)).actions
    chunk = ActionChunk(actions[0].double().numpy(), 0, 1, 1)
    assert "not a finite number" in chunk_problem(checkpoint.contract.action, chunk)
