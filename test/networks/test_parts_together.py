"""Encoder × projector × language model × readout × head: every pair of parts is in a model that trains and loads."""

from itertools import combinations, product

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch import nn

from vla_ros.networks.heads import build_action_head
from vla_ros.networks.language.language_model import LanguageModel, LanguageModelConfig
from vla_ros.networks.language.readouts import build_readout
from vla_ros.networks.language.vision_language import VisionLanguageTrunk
from vla_ros.networks.projectors import build_projector
from vla_ros.networks.vision.vision_encoder import VisionEncoder, VisionEncoderConfig
from vla_ros.registry import ACTION_HEADS, PROJECTORS, READOUTS

TOWER = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "image_size": 32}
MLP = {"intermediate_size": 24}
ENCODERS = {
    "siglip_base": {**TOWER, **MLP},
    "clip_base": {**TOWER, **MLP},
    "dinov2_base": TOWER,
    "resnet_small": {},
    "efficientnet_lite0": {},
}
LANGUAGE = {"qwen2_0_5b": 1, "llama3_8b": 1, "phi3_mini": 2, "smollm2_135m": 1}
SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 40}
SMALL = {name: {"width": 16, "n_heads": 2} for name in ("diffusion", "flow", "transformer")}
B, L, H, A = 2, 5, 4, 3


def pairwise(*axes):
    """Return rows that hold every pair of values of every two axes: each row is the one that covers most pairs left."""
    left = {((i, a), (j, b)) for (i, x), (j, y) in combinations(enumerate(axes), 2) for a in x for b in y}
    rows = []
    while left:
        row = max(product(*axes), key=lambda row: len(pairs(row) & left))
        rows.append(row)
        left -= pairs(row)
    return rows


def pairs(row):
    return set(combinations(enumerate(row), 2))


ROWS = pairwise(tuple(ENCODERS), PROJECTORS.built_in, tuple(LANGUAGE), READOUTS.built_in, ACTION_HEADS.built_in)


class Model(nn.Module):
    def __init__(self, encoder, projector, language, readout, head):
        super().__init__()
        size = 64 if encoder.startswith("efficient") else 32
        options = {"model_name": encoder, "image_size": size, "sizes": ENCODERS[encoder]}
        self.encoder = VisionEncoder(VisionEncoderConfig(**options))
        small = {"attention_pool": {"num_queries": 3}, "perceiver": {"num_latents": 3}}.get(projector, {})
        self.projector = build_projector(projector, self.encoder.width, 16, **small)
        n_image = self.projector.n_tokens(self.encoder.n_tokens)
        sizes = {**SIZES, "num_key_value_heads": LANGUAGE[language]}
        model = LanguageModel(LanguageModelConfig(model_name=language, sizes=sizes, lora_rank=2))
        reader = build_readout(readout, 16, model.n_layers, H)
        self.trunk = VisionLanguageTrunk(model, reader, [n_image], L)
        self.head = build_action_head(head, 16, A, H, self.trunk.n_tokens, **SMALL.get(head, {}))

    def features(self, images, text, valid):
        return self.trunk(self.projector(self.encoder(images)), text, valid)


def test_every_pair_of_parts_is_in_a_row():
    axes = [ENCODERS, PROJECTORS.built_in, LANGUAGE, READOUTS.built_in, ACTION_HEADS.built_in]
    wanted = {((i, a), (j, b)) for (i, x), (j, y) in combinations(enumerate(axes), 2) for a in x for b in y}
    assert wanted == set().union(*(pairs(row) for row in ROWS))
    assert len(ROWS) < 40


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_it_trains_a_step_predicts_saves_and_loads(tmp_path, row):
    torch.manual_seed(0)
    model = Model(*row).train()
    images, text = torch.rand(B, 3, 40, 40), torch.randint(0, 40, (B, L))
    valid = torch.tensor([[True] * L, [True, True, False, False, False]])
    actions, is_pad = torch.rand(B, H, A) * 2 - 1, torch.zeros(B, H, dtype=torch.bool)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = model.head.compute_loss(model.features(images, text, valid), actions, is_pad).loss
    loss.backward()
    assert loss.isfinite()
    torch.optim.SGD(learning, lr=0.1).step()
    before = {name: value.clone() for name, value in model.projector.state_dict().items()}
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.projector.parameters())
    model.eval()
    predicted = model.head.predict(model.features(images, text, valid), torch.Generator().manual_seed(1))
    assert predicted.shape == (B, H, A)
    assert predicted.isfinite().all()
    save_model(model, tmp_path / "model.safetensors")
    loaded = Model(*row).eval()
    load_model(loaded, tmp_path / "model.safetensors")
    again = loaded.head.predict(loaded.features(images, text, valid), torch.Generator().manual_seed(1))
    assert torch.equal(predicted, again)
    assert all(torch.equal(value, loaded.projector.state_dict()[name]) for name, value in before.items())
