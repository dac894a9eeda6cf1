"""Action chunking with a transformer. One forward pass per chunk; sampling in training only, no memory.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, S state_dim, F features, C channels, h, w pixels,
Z latent_dim, L tokens, D width.
"""

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from vla_ros.networks import (
    Backbone,
    ImageEncoder,
    TransformerDecoder,
    TransformerEncoder,
    build_backbone,
    build_head,
    load_backbone_weights,
)
from vla_ros.objectives import kl_to_standard_normal, sample_gaussian
from vla_ros.policies.act.config import ActConfig
from vla_ros.policies.act.latent import LatentEncoder
from vla_ros.policies.act.tokens import FrameTokens, MapTokens
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.policies.common.camera_encoders import CameraEncoders


class ActPolicy(Policy):
    """Encodes an observation's tokens, and lets a learned query per step of the chunk ask them what to do."""

    name: ClassVar[str] = "act"
    config_class: ClassVar[type[PolicyConfig]] = ActConfig
    pads_actions: ClassVar[bool] = True
    config: ActConfig

    def __init__(self, config: ActConfig) -> None:
        super().__init__(config)
        sizes = (config.width, config.n_heads, config.mlp_dim, config.dropout)
        self.encoders = CameraEncoders(config, config.share_encoder, self._camera_encoder)
        self.tokens = self._build_tokens()
        self.latent = self._build_latent() if config.cvae else None
        self.encoder = TransformerEncoder(config.n_encoder_layers, *sizes)
        self.decoder = TransformerDecoder(config.n_decoder_layers, *sizes, final_norm=config.cvae)
        self.queries_HD = nn.Parameter(torch.randn(config.action_horizon, config.width))
        per_step = math.prod(config.action_objective.raw_shape)
        self.head = build_head(config.head, config.width, config.head_widths, per_step, config.dropout)

    def forward(self, observation: Batch) -> Tensor:
        """Return normalised actions, float32 [B, H, A], of a normalised observation; the latent is 0."""
        return self.config.action_objective.actions(self._raw(observation))

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Return the objective's loss, with a CVAE plus the weighted divergence of its latent.

        ``terms`` holds the mean absolute error ``l1``, with a CVAE also ``kl``.
        """
        self.check_observation(batch)
        objective = self.config.action_objective
        if self.latent is None:
            return objective.loss_of(self._raw(batch), batch)
        mean_BZ, log_variance_BZ = self.latent(batch["action"], batch["action_is_pad"], self._state(batch))
        latent_BZ = sample_gaussian(mean_BZ, log_variance_BZ, generator)
        error = objective.loss_of(self._raw(batch, latent_BZ), batch)
        kl = kl_to_standard_normal(mean_BZ, log_variance_BZ)
        return LossOutput(error.loss + self.config.kl_weight * kl, {**error.terms, "kl": kl.detach()})

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,  # noqa: ARG002  # nothing is remembered
        generator: torch.Generator | None = None,  # noqa: ARG002  # the latent is its prior's mean
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`; deterministic in eval mode, no state."""
        self.check_observation(observation)
        return PolicyOutput(self(observation))

    def load_pretrained(self) -> None:
        """Read `backbone_weights`, if given, into every camera's backbone.

        Raises:
            ConfigError: The file is missing, unreadable or not this backbone's.
        """
        if self.config.backbone_weights is not None:
            for encoder in self.encoders.each():
                backbone = encoder.backbone if isinstance(encoder, ImageEncoder) else cast("Backbone", encoder)
                load_backbone_weights(backbone, self.config.backbone_weights)

    def _raw(self, observation: Batch, latent_BZ: Tensor | None = None) -> Tensor:
        """Return the head's numbers, [B, H, A], of bins [B, H, A, V]."""
        config = self.config
        if isinstance(self.tokens, FrameTokens):
            tokens_BLD, positions_LD = self._frame_tokens(self.tokens, observation), None
            is_pad_BT = observation.get("is_pad")
            valid_BL = None if is_pad_BT is None else ~is_pad_BT
            queries_HD: Tensor = self.queries_HD
            positions_HD = None
        else:
            tokens_BLD, positions_LD = self._map_tokens(self.tokens, observation, latent_BZ), self.tokens.positions()
            valid_BL = None
            queries_HD, positions_HD = torch.zeros_like(self.queries_HD), self.queries_HD
        memory_BLD = self.encoder(tokens_BLD, positions_LD, valid_BL)
        queries_BHD = queries_HD.expand(len(tokens_BLD), config.action_horizon, config.width)
        decoded_BHD = self.decoder(queries_BHD, memory_BLD, valid_BL, positions_HD, positions_LD)
        raw_BHN: Tensor = self.head(decoded_BHD)
        return raw_BHN.view(*raw_BHN.shape[:2], *config.action_objective.raw_shape)

    def _frame_tokens(self, tokens: FrameTokens, observation: Batch) -> Tensor:
        images = [self.encoders.encode(key, observation[key]) for key in self.config.image_keys]
        vectors = [observation[key] for key in self._vector_keys]
        visual_BTF = torch.cat(images, dim=-1) if images else None
        state_BTS = torch.cat(vectors, dim=-1) if vectors else None
        is_pad_BT = observation.get("is_pad")
        tokens_BTD: Tensor = tokens(visual_BTF, state_BTS)
        # nothing attends to a padded frame; its content must not reach the others as NaN either
        return tokens_BTD if is_pad_BT is None else tokens_BTD.masked_fill(is_pad_BT[..., None], 0.0)

    def _map_tokens(self, tokens: MapTokens, observation: Batch, latent_BZ: Tensor | None) -> Tensor:
        maps = [self.encoders.of(key)(observation[key][:, -1]) for key in self.config.image_keys]
        if latent_BZ is None:
            batch_size = len(observation[next(iter(self.config.inputs))])
            latent_BZ = self.queries_HD.new_zeros(batch_size, self.config.latent_dim)
        tokens_BLD: Tensor = tokens(latent_BZ, self._state(observation), maps)
        return tokens_BLD

    def _state(self, observation: Batch) -> Tensor | None:
        vectors = [observation[key][:, -1] for key in self._vector_keys]
        return torch.cat(vectors, dim=-1) if vectors else None

    @property
    def _vector_keys(self) -> list[str]:
        return [key for key, spec in self.config.inputs.items() if spec.kind == "vector"]

    def _camera_encoder(self, image_size: tuple[int, int]) -> nn.Module:
        if self.config.cvae:
            return build_backbone(self.config.backbone, image_size)
        return ImageEncoder(self.config.backbone, self.config.pooling, image_size)

    def _build_tokens(self) -> FrameTokens | MapTokens:
        config = self.config
        encoders = [self.encoders.of(key) for key in config.image_keys]
        if config.cvae:
            shapes = [cast("Backbone", encoder).map_shape for encoder in encoders]
            return MapTokens(shapes, config.share_encoder, config.state_dim, config.latent_dim, config.width)
        visual_dim = sum(cast("ImageEncoder", encoder).feature_dim for encoder in encoders)
        return FrameTokens(visual_dim, config.state_dim, config.n_obs_steps, config.width)

    def _build_latent(self) -> LatentEncoder:
        config = self.config
        encoder = TransformerEncoder(
            config.n_encoder_layers, config.width, config.n_heads, config.mlp_dim, config.dropout
        )
        return LatentEncoder(
            encoder,
            config.width,
            action_dim=config.action_dim,
            action_horizon=config.action_horizon,
            state_dim=config.state_dim,
            latent_dim=config.latent_dim,
        )
