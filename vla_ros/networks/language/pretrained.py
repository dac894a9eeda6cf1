"""Weights of transformers models → our modules of the same form. transformers is needed only to read them.

Every weight that our module has must be there, with the same shape; otherwise nothing is changed.
"""

from collections.abc import Mapping
from importlib import import_module

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.joint_attention import Expert
from vla_ros.networks.hub_folders import hub_folder
from vla_ros.networks.vision.image_tokens import PatchTokens, VisionTransformer

_GEMMA_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
_SIGLIP_LAYER = {
    "attention_norm": "layer_norm1",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.out_proj",
    "mlp_norm": "layer_norm2",
    "mlp.inner": "mlp.fc1",
    "mlp.outer": "mlp.fc2",
}


def load_transformers(source: str) -> nn.Module:
    """Load a model in float32: a folder, a name whose files are in the hub's cache, or ``download:NAME``.

    Raises:
        ConfigError: transformers is not installed, the model is not at hand, or it cannot be loaded.
    """
    folder = hub_folder(source, "pretrained model")
    try:
        transformers = import_module("transformers")
    except ImportError as reason:
        raise ConfigError(
            f"pretrained weights '{source}' need the package transformers, which is not installed."
        ) from reason
    try:
        model: nn.Module = transformers.AutoModel.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError) as reason:
        raise ConfigError(
            f"pretrained weights '{source}' cannot be loaded: {' '.join(str(reason).split())[:300]}"
        ) from reason
    return model


def copy_gemma(model: nn.Module, expert: Expert, text: nn.Embedding | None = None) -> None:
    """Copy a Gemma, or a PaliGemma's language model, into an expert and, if given, its text embedding.

    Raises:
        ConfigError: The model is none of those, or its sizes differ.
    """
    source = _part_with(model, "embed_tokens.weight", "a Gemma")
    weights: dict[str, Tensor | None] = {"final_norm.weight": source.get("norm.weight")}
    for index in range(len(expert.layers)):
        for ours, theirs in _GEMMA_LAYER.items():
            weights[f"layers.{index}.{ours}.weight"] = source.get(f"layers.{index}.{theirs}.weight")
    _check_depth(source, "layers.", len(expert.layers), "Gemma")
    _check_shapes(expert, weights, "Gemma")
    if text is not None:
        embedding = {"weight": source["embed_tokens.weight"]}
        _check_shapes(text, embedding, "Gemma's embedding")
        text.load_state_dict(embedding)
    expert.load_state_dict(weights)


def copy_siglip(model: nn.Module, encoder: VisionTransformer) -> None:
    """Copy the vision tower of a SigLIP or a PaliGemma.

    Raises:
        ConfigError: The model has none, or its sizes differ.
    """
    source = _part_with(model, "embeddings.patch_embedding.weight", "a SigLIP vision model")
    weights: dict[str, Tensor | None] = {
        "patches.weight": source.get("embeddings.patch_embedding.weight"),
        "patches.bias": source.get("embeddings.patch_embedding.bias"),
        "positions_PW": source.get("embeddings.position_embedding.weight"),
        "final_norm.weight": source.get("post_layernorm.weight"),
        "final_norm.bias": source.get("post_layernorm.bias"),
    }
    for index in range(len(encoder.layers)):
        for ours, theirs in _SIGLIP_LAYER.items():
            for part in ("weight", "bias"):
                weights[f"layers.{index}.{ours}.{part}"] = source.get(f"encoder.layers.{index}.{theirs}.{part}")
    _check_depth(source, "encoder.layers.", len(encoder.layers), "SigLIP")
    _check_shapes(encoder, weights, "SigLIP")
    encoder.load_state_dict(weights)


def copy_patch_tokens(model: nn.Module, tokens: PatchTokens) -> None:
    """Copy a SigLIP's vision tower and, of a PaliGemma, its projector too.

    Raises:
        ConfigError: As `copy_siglip`.
    """
    state = model.state_dict()
    name = next((key for key in state if key.endswith("multi_modal_projector.linear.weight")), None)
    if name is None:
        copy_siglip(model, tokens.encoder)
        return
    weights = {"weight": state[name], "bias": state[name.removesuffix("weight") + "bias"]}
    _check_shapes(tokens.projector, weights, "PaliGemma's projector")
    copy_siglip(model, tokens.encoder)
    tokens.projector.load_state_dict(weights)


def _part_with(model: nn.Module, name: str, what: str) -> dict[str, Tensor]:
    """Return the weights beside `name`, wherever in the model they are, without their common prefix."""
    state = model.state_dict()
    prefix = next((key[: -len(name)] for key in state if key.endswith(name)), None)
    if prefix is None:
        raise ConfigError(f"pretrained weights: {type(model).__name__} is not {what} (it has no '{name}').")
    return {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}


def _check_depth(source: Mapping[str, Tensor], prefix: str, depth: int, what: str) -> None:
    layers = {key[len(prefix) :].split(".")[0] for key in source if key.startswith(prefix)}
    if len(layers) != depth:
        raise ConfigError(
            f"pretrained weights: the {what} has {len(layers)} layers, the policy {depth}; make depths equal."
        )


def _check_shapes(module: nn.Module, weights: Mapping[str, Tensor | None], what: str) -> None:
    for name, own in module.state_dict().items():
        given = weights.get(name)
        if given is None:
            raise ConfigError(f"pretrained weights: the {what} has nothing for '{name}'.")
        if given.shape != own.shape:
            raise ConfigError(
                f"pretrained weights: '{name}' is {list(given.shape)} in the {what}, {list(own.shape)} in the policy; "
                "make the sizes in the policy's options equal."
            )
