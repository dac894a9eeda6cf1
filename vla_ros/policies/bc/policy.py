"""Behaviour cloning from images and proprioception. One forward pass; no sampling, memory only as a GRU's state.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, S state_dim, F features, D width, h, w pixels.
"""

import math
from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor

from vla_ros.networks.heads.noise_input import noise_dim, with_noise
from vla_ros.networks.temporal.frame_padding import without_padding
from vla_ros.objectives.noise import Noised
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, Request
from vla_ros.policies.bc.config import BcConfig
from vla_ros.policies.common.action_objective import repeated
from vla_ros.policies.common.every_frame import GruMemory, chunks_of_every_frame
from vla_ros.policies.common.observation_tokens import CameraEncoders
from vla_ros.registry import HEADS, build_part

HIDDEN = "hidden"


class BcPolicy(Policy):
    """Encodes every image of every frame, joins the features with the vectors, and regresses the whole chunk."""

    name: ClassVar[str] = "bc"
    config_class: ClassVar[type[PolicyConfig]] = BcConfig
    pads_actions: ClassVar[bool] = True
    config: BcConfig

    def __init__(self, config: BcConfig) -> None:
        super().__init__(config)
        self.objective = config.action_objective
        self.encoders = CameraEncoders.of_backbones(config, config.share_encoder, config.backbone, config.pooling)
        image_dim = sum(self.encoders.of(key).feature_dim for key in config.image_keys)
        frame_dim = image_dim + config.state_dim
        self.memory = GruMemory(frame_dim, config.gru_hidden_dim) if config.gru_hidden_dim else None
        input_dim = config.gru_hidden_dim or config.n_obs_steps * frame_dim
        if self.objective.is_denoising:
            input_dim += noise_dim(config.action_horizon, config.action_dim)
        output_dim = config.action_horizon * math.prod(self.objective.raw_shape)
        self.head = build_part(HEADS, config.head, input_dim, config.hidden_dims, output_dim, config.dropout)

    def forward(self, observation: Batch) -> Tensor:
        """Return a regression's normalised actions, float32 [B, H, A], of an observation at the start of a memory."""
        return self.objective.actions(self._raw(observation)[0])

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the objective's loss, with a memory over all frames."""
        if self.memory is None:
            features_BF, chunks = self._features(batch)[0], batch
        else:
            features_BF, chunks = self._memories(batch).flatten(0, 1), chunks_of_every_frame(batch)
        return self.objective.train(lambda noised: self._chunks(features_BF, noised), chunks, generator)

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict; but for sampled noise, deterministic in eval mode.

        With a memory, a call without state runs it over the observation's frames, as training does; a call with state
        adds the frames that are new to it. ``state["hidden"]`` is float32 [B, gru_hidden_dim].
        """
        features_BF, hidden_BD = self._features(observation, None if request.state is None else request.state[HIDDEN])
        actions_BHA = self.objective.sample(lambda noised: self._chunks(features_BF, noised), request)
        state = None if hidden_BD is None else {HIDDEN: hidden_BD}
        return PolicyOutput(actions_BHA, state, {"features": features_BF})

    def load_pretrained(self) -> None:
        """Read `backbone_weights`, if given, into every camera's backbone.

        Raises:
            ConfigError: The file is missing, unreadable or not this backbone's.
        """
        self.encoders.load_backbones(self.config.backbone_weights)

    def _raw(self, observation: Batch, hidden_BD: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the head's numbers, [B, H, A], of bins [B, H, A, V], and the memory after the newest frame."""
        features_BF, hidden_BD = self._features(observation, hidden_BD)
        return self._chunks(features_BF), hidden_BD

    def _features(self, observation: Batch, hidden_BD: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return what the head reads, float [B, F], and the memory after the newest frame, which then is the same."""
        if self.memory is None:
            parts_BTF = self._parts(observation, slice(None))
            return torch.cat([part.flatten(1) for part in parts_BTF], dim=1), None
        hidden_BD = self._memories(observation, hidden_BD)[:, -1]
        return hidden_BD, hidden_BD

    def _memories(self, observation: Batch, hidden_BD: Tensor | None = None) -> Tensor:
        """Return the memory after each frame, [B, T, D]; with `hidden_BD`, after each from the first new one on."""
        # typed, since a module's call is not
        memory: Callable[..., Tensor] = cast("GruMemory", self.memory)
        is_pad_BT = observation.get("is_pad")
        if hidden_BD is None:
            return memory(self._frames(observation, slice(None)), is_pad_BT)
        is_known_BT = observation.get("is_known")
        if is_known_BT is None:
            return memory(self._frames(observation, slice(-1, None)), None, hidden_BD)
        skip_BT = is_known_BT if is_pad_BT is None else is_known_BT | is_pad_BT
        new = slice(int(skip_BT.all(dim=0).int().cumprod(dim=0).sum().clamp(max=skip_BT.shape[1] - 1)), None)
        return memory(self._frames(observation, new), skip_BT[:, new], hidden_BD)

    def _frames(self, observation: Batch, frames: slice) -> Tensor:
        """Return images' features and vectors side by side, [B, frames, F + S]."""
        return torch.cat(self._parts(observation, frames), dim=2)

    def _parts(self, observation: Batch, frames: slice) -> list[Tensor]:
        parts_BTF, is_pad_BT = [], observation.get("is_pad")
        for key, spec in self.config.inputs.items():
            value = observation[key][:, frames]
            if self.memory is None and is_pad_BT is not None:  # a memory skips padding
                value = without_padding(value, is_pad_BT.bool())
            parts_BTF.append(self.encoders.encode(key, value) if spec.kind == "image" else value)
        return parts_BTF

    def _chunks(self, features_BF: Tensor, noised: Noised | None = None) -> Tensor:
        if noised is not None:
            features_BF = with_noise(repeated(features_BF, noised), noised.noised_BHA, noised.time_B)
        raw_BN: Tensor = self.head(features_BF)
        return raw_BN.view(-1, self.config.action_horizon, *self.objective.raw_shape)
