"""Action chunking with a transformer: a learned query per step of the chunk asks the observation's tokens what to do.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, S state_dim, F features, C channels, h, w pixels of
a map, P pixels of all maps, Z latent_dim, L tokens, D width.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_ros.networks.attention.embeddings import FlowTokens, sine_positions, sine_positions_2d
from vla_ros.networks.attention.transformer import TransformerDecoder, TransformerEncoder
from vla_ros.objectives.noise import Noised, kl_to_standard_normal, sample_gaussian
from vla_ros.policies.act.config import ActConfig, ActWalkthroughConfig
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState, Request
from vla_ros.policies.common.action_objective import repeated
from vla_ros.policies.common.observation_tokens import CameraEncoders, ObservationTokens, TokenAssembler, TokenPart
from vla_ros.processors import ACTION_DIM_IS_PAD
from vla_ros.registry import HEADS, build_part


@dataclass(frozen=True)
class Encoded:
    """An observation as the chunk's queries see it.

    Attributes:
        memory_BLD: The encoder's output, float [B, L, D].
        valid_BL: bool [B, L]; None: all tokens are valid.
        positions_LD: What is added to the memory's keys, or None.
        tokens: What was encoded.
        state: What is remembered of the episode, or None.
    """

    memory_BLD: Tensor
    valid_BL: Tensor | None
    positions_LD: Tensor | None
    tokens: ObservationTokens
    state: dict[str, Tensor] | None


class ActPolicy(Policy):
    """Action chunking transformer: a learned query per step of the chunk reads an observation's encoded tokens."""

    name: ClassVar[str] = "act"
    config_class: ClassVar[type[PolicyConfig]] = ActConfig
    pads_actions: ClassVar[bool] = True
    config: ActConfig

    def __init__(self, config: ActConfig) -> None:
        super().__init__(config)
        sizes = (config.width, config.n_heads, config.mlp_dim, config.dropout)
        pooling = config.pooling if config.image_tokens == "frames" else None
        self.objective = config.action_objective
        self.encoders = CameraEncoders.of_backbones(config, config.share_encoder, config.backbone, pooling)
        self.tokens = _tokens(config, [self.encoders.of(key) for key in config.image_keys])
        self.latent = (
            LatentEncoder(config, TransformerEncoder(config.n_encoder_layers, *sizes)) if config.cvae else None
        )
        self.assemble = TokenAssembler(config, config.width)
        self.encoder = TransformerEncoder(config.n_encoder_layers, *sizes)
        final_norm = config.positions == "every_layer"
        self.decoder = TransformerDecoder(config.n_decoder_layers, *sizes, final_norm=final_norm)
        self.queries_HD = nn.Parameter(torch.randn(config.action_horizon, config.width))
        self.noise = FlowTokens(config.action_dim, config.width, 0) if self.objective.is_denoising else None
        per_step = math.prod(self.objective.raw_shape)
        self.head = build_part(HEADS, config.head, config.width, config.head_dims, per_step, config.dropout)

    def forward(self, observation: Batch) -> Tensor:
        """Return a regression's normalised actions, float32 [B, H, A], of a normalised observation; the latent is 0."""
        return self.objective.actions(self._raw(observation))

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the objective's loss, with a CVAE plus the weighted divergence of its latent (``kl`` in the terms)."""
        if self.latent is None:
            encoded = self._encode(batch)
            return self.objective.train(lambda noised: self._decode(encoded, noised), batch, generator)
        action_BHA = batch["action"]
        if ACTION_DIM_IS_PAD in batch:
            action_BHA = action_BHA.masked_fill(batch[ACTION_DIM_IS_PAD][:, None], 0.0)
        mean_BZ, log_variance_BZ = self.latent(action_BHA, batch["action_is_pad"], self._state(batch))
        encoded = self._encode(batch, sample_gaussian(mean_BZ, log_variance_BZ, generator))
        error = self.objective.train(lambda noised: self._decode(encoded, noised), batch, generator)
        kl = kl_to_standard_normal(mean_BZ, log_variance_BZ)
        return LossOutput(error.loss + self.config.kl_weight * kl, {**error.terms, "kl": kl.detach()})

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict with the latent at its prior's mean; but for sampled noise, deterministic in eval mode."""
        encoded = self._encode(observation, state=request.state)
        actions_BHA = self.objective.sample(lambda noised: self._decode(encoded, noised), request)
        named = {"tokens": encoded.tokens.tokens_BLD, "memory": encoded.memory_BLD}
        if encoded.valid_BL is not None:
            named["mask"] = encoded.valid_BL
        if self.latent is not None:
            named["z"] = self.queries_HD.new_zeros(len(actions_BHA), self.config.latent_dim)
        return PolicyOutput(actions_BHA, encoded.state, named, encoded.tokens.segments)

    def load_pretrained(self) -> None:
        """Read `backbone_weights`, if given, into every camera's backbone.

        Raises:
            ConfigError: The file is missing, unreadable or not this backbone's.
        """
        self.encoders.load_backbones(self.config.backbone_weights)

    def _raw(self, observation: Batch, latent_BZ: Tensor | None = None) -> Tensor:
        """Return the head's numbers, [B, H, A], of bins [B, H, A, V]."""
        return self._decode(self._encode(observation, latent_BZ))

    def _encode(self, observation: Batch, latent_BZ: Tensor | None = None, state: PolicyState | None = None) -> Encoded:
        config = self.config
        vectors = [observation[key] for key in config.vector_keys]
        state_BTS = torch.cat(vectors, dim=-1) if vectors else None
        images = {key: self.encoders.encode(key, observation[key]) for key in config.image_keys}
        if config.cvae and latent_BZ is None:
            batch_size = len(next(iter(observation[key] for key in config.inputs)))
            latent_BZ = self.queries_HD.new_zeros(batch_size, config.latent_dim)
        own, positions_LD = self.tokens(latent_BZ, state_BTS, images, _valid_frames(observation, config.n_obs_steps))
        tokens, after = self.assemble(own, observation, state)
        valid_BL, tokens_BLD = tokens.valid_BL, tokens.tokens_BLD
        if config.positions == "input":
            tokens_BLD, positions_LD = _placed(tokens_BLD, positions_LD), None
        else:
            positions_LD = _lengthened(positions_LD, tokens_BLD)
        if valid_BL is not None:  # nothing attends to what is not valid; it must not reach the others as NaN either
            tokens_BLD = tokens_BLD.masked_fill(~valid_BL[..., None], 0.0)
        memory_BLD = self.encoder(tokens_BLD, positions_LD, valid_BL)
        return Encoded(memory_BLD, valid_BL, positions_LD, tokens, after)

    def _decode(self, encoded: Encoded, noised: Noised | None = None) -> Tensor:
        memory_BLD, valid_BL = encoded.memory_BLD, encoded.valid_BL
        queries_BHD, positions_HD = self.queries_HD.expand(len(memory_BLD), -1, -1), None
        if self.config.positions == "every_layer":
            queries_BHD, positions_HD = torch.zeros_like(queries_BHD), self.queries_HD
        if noised is not None and self.noise is not None:
            memory_BLD = repeated(memory_BLD, noised)
            valid_BL = None if valid_BL is None else repeated(valid_BL, noised)
            queries_BHD = repeated(queries_BHD, noised) + self.noise.embed(noised.noised_BHA, noised.time_B)
        decoded_BHD = self.decoder(queries_BHD, memory_BLD, valid_BL, positions_HD, encoded.positions_LD)
        raw_BHN: Tensor = self.head(decoded_BHD)
        return raw_BHN.view(*raw_BHN.shape[:2], *self.objective.raw_shape)

    def _state(self, observation: Batch) -> Tensor | None:
        vectors = [observation[key][:, -1] for key in self.config.vector_keys]
        return torch.cat(vectors, dim=-1) if vectors else None


class ActWalkthroughPolicy(ActPolicy):
    """The walkthrough's action chunking transformer: a token per frame, no latent variable, bounded actions."""

    name: ClassVar[str] = "act_walkthrough"
    config_class: ClassVar[type[PolicyConfig]] = ActWalkthroughConfig
    config: ActWalkthroughConfig


class LatentEncoder(nn.Module):
    """ACT's CVAE encoder: what was done, given the state, as a Gaussian over a latent. Used in training only.

    A transformer over [CLS, state, a₁ … a_H]; the class token's output gives μ and log σ².

    Args:
        config: The policy's.
        encoder: Over the tokens.
    """

    positions_LD: Tensor

    def __init__(self, config: ActConfig, encoder: TransformerEncoder) -> None:
        super().__init__()
        width = config.width
        self.class_token_D = nn.Parameter(torch.randn(width))
        self.state = nn.Linear(config.state_dim, width) if config.state_dim else None
        self.action = nn.Linear(config.action_dim, width)
        self.encoder = encoder
        self.output = nn.Linear(width, 2 * config.latent_dim)
        positions_LD = sine_positions((2 if config.state_dim else 1) + config.action_horizon, width)
        self.register_buffer("positions_LD", positions_LD, persistent=False)

    def forward(self, action_BHA: Tensor, is_pad_BH: Tensor, state_BS: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return μ and log σ², float [B, Z] each.

        Args:
            action_BHA: Normalised actions, float [B, H, A].
            is_pad_BH: bool [B, H], True for steps that are hidden from it.
            state_BS: float [B, S].
        """
        # hidden steps are replaced too: a NaN times an attention weight of 0 is NaN
        action_BHA = action_BHA.masked_fill(is_pad_BH[..., None], 0.0)
        tokens = [self.class_token_D.expand(len(action_BHA), 1, -1)]
        if self.state is not None:
            tokens.append(self.state(state_BS)[:, None])
        first_BL = is_pad_BH.new_ones(len(action_BHA), len(tokens))
        tokens_BLD = torch.cat([*tokens, self.action(action_BHA)], dim=1)
        encoded_BLD = self.encoder(tokens_BLD, self.positions_LD, torch.cat([first_BL, ~is_pad_BH], dim=1))
        mean_BZ, log_variance_BZ = self.output(encoded_BLD[:, 0]).chunk(2, dim=-1)
        return mean_BZ, log_variance_BZ


class FrameTokens(nn.Module):
    """A token per frame: visual features and state mapped to one width and added. With a CVAE, the latent before them.

    Args:
        config: The policy's.
        visual_dim: F, of all cameras together; 0 without.
    """

    positions_TD: Tensor

    def __init__(self, config: ActConfig, visual_dim: int) -> None:
        super().__init__()
        self.latent = nn.Linear(config.latent_dim, config.width) if config.cvae else None
        self.visual = nn.Linear(visual_dim, config.width) if visual_dim else None
        self.state = nn.Linear(config.state_dim, config.width) if config.state_dim else None
        self.register_buffer("positions_TD", sine_positions(config.n_obs_steps, config.width), persistent=False)

    def forward(
        self,
        latent_BZ: Tensor | None,
        state_BTS: Tensor | None,
        images: dict[str, Tensor],
        valid_BT: Tensor | None,
    ) -> tuple[list[TokenPart], Tensor]:
        """Return the parts, and their positions, float [L, D].

        Args:
            latent_BZ: float [B, Z], with a CVAE.
            state_BTS: float [B, T, S].
            images: Camera → features, float [B, T, F].
            valid_BT: bool [B, T], False before the episode's begin.
        """
        summands = []
        if self.visual is not None:
            summands.append(self.visual(torch.cat(list(images.values()), dim=-1)))
        if self.state is not None:
            summands.append(self.state(state_BTS))
        parts = [TokenPart("frames", sum(summands[1:], summands[0]), valid_BT)]
        positions_LD = self.positions_TD
        if self.latent is not None:
            parts.insert(0, TokenPart("latent", self.latent(latent_BZ)[:, None]))
            positions_LD = torch.cat([torch.zeros_like(positions_LD[:1]), positions_LD])
        return parts, positions_LD


class MapTokens(nn.Module):
    """A token for the latent, one for each frame's state, one for each pixel of each frame of each camera.

    Latent and state have learned positions, pixels fixed ones of row and column; of several frames, each has a learned
    vector beside them, zero at first.

    Args:
        config: The policy's.
        map_shapes: (C, h, w) of each camera.
    """

    map_positions_PD: Tensor

    def __init__(self, config: ActConfig, map_shapes: Sequence[tuple[int, int, int]]) -> None:
        super().__init__()
        width, self.steps = config.width, config.n_obs_steps
        self.latent = nn.Linear(config.latent_dim, width) if config.cvae else None
        self.state = nn.Linear(config.state_dim, width) if config.state_dim else None
        channels = [shape[0] for shape in map_shapes]
        count = 1 if config.share_encoder else len(channels)
        self.maps = nn.ModuleList(nn.Conv2d(channel, width, 1) for channel in channels[:count])
        n_vectors = (self.latent is not None) + (self.state is not None)
        self.vector_positions_ND = nn.Parameter(torch.randn(n_vectors, width))
        self.frames_TD = nn.Parameter(torch.zeros(self.steps, width)) if self.steps > 1 else None
        places = [sine_positions_2d(height, width_px, width) for _, height, width_px in map_shapes]
        self.n_places = [len(place_PD) for place_PD in places]
        places_PD = torch.cat(places) if places else torch.zeros(0, width)
        self.register_buffer("map_positions_PD", places_PD, persistent=False)

    def positions(self) -> Tensor:
        """Return the positions of all tokens, float [L, D]."""
        vectors = list(torch.split(self.vector_positions_ND, 1))
        placed = [vectors.pop(0)] if self.latent is not None else []
        groups = vectors + list(torch.split_with_sizes(self.map_positions_PD, self.n_places))
        for group_PD in groups:  # frame by frame, each frame's places in order
            group_TPD = group_PD.expand(self.steps, *group_PD.shape)
            group_TPD = group_TPD if self.frames_TD is None else group_TPD + self.frames_TD[:, None]
            placed.append(group_TPD.flatten(0, 1))
        return torch.cat(placed)

    def forward(
        self,
        latent_BZ: Tensor | None,
        state_BTS: Tensor | None,
        images: dict[str, Tensor],
        valid_BT: Tensor | None,
    ) -> tuple[list[TokenPart], Tensor]:
        """Return the parts, and their positions, float [L, D]; arguments as in `FrameTokens`, images as maps."""
        parts = []
        if self.latent is not None:
            parts.append(TokenPart("latent", self.latent(latent_BZ)[:, None]))
        if self.state is not None:
            parts.append(TokenPart("state", self.state(state_BTS), valid_BT))
        for number, (key, map_BTChw) in enumerate(images.items()):
            projection = self.maps[0 if len(self.maps) == 1 else number]
            tokens_NPD = projection(map_BTChw.flatten(0, 1)).flatten(2).transpose(1, 2)
            tokens_BLD = tokens_NPD.unflatten(0, map_BTChw.shape[:2]).flatten(1, 2)
            valid_BL = None if valid_BT is None else valid_BT.repeat_interleave(tokens_NPD.shape[1], dim=1)
            parts.append(TokenPart(key, tokens_BLD, valid_BL))
        return parts, self.positions()


def _tokens(config: ActConfig, encoders: Sequence[Any]) -> FrameTokens | MapTokens:
    if config.image_tokens == "frames":
        return FrameTokens(config, sum(encoder.feature_dim for encoder in encoders))
    return MapTokens(config, [encoder.map_shape for encoder in encoders])


def _valid_frames(observation: Batch, steps: int) -> Tensor | None:
    """Return bool [B, T]; None where no frame can be from before the episode's begin: the newest never is."""
    return ~observation["is_pad"].bool() if steps > 1 and "is_pad" in observation else None


def _placed(tokens_BLD: Tensor, positions_LD: Tensor) -> Tensor:
    return tokens_BLD + _lengthened(positions_LD, tokens_BLD)


def _lengthened(positions_LD: Tensor, tokens_BLD: Tensor) -> Tensor:
    """Return positions for all tokens; those of further sensors, which have their own within, get none."""
    missing = tokens_BLD.shape[1] - len(positions_LD)
    return (
        torch.cat([positions_LD, positions_LD.new_zeros(missing, positions_LD.shape[1])]) if missing else positions_LD
    )
