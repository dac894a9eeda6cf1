"""Behaviour cloning from images and proprioception. One forward pass; no sampling, memory only as a GRU's state.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, S state_dim, F features, D width, h, w pixels.
"""

import math
from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor

from vla_ros.networks import ImageEncoder, build_head, load_backbone_weights
from vla_ros.networks.temporal.frame_padding import without_padding
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.policies.bc.config import BcConfig
from vla_ros.policies.common.camera_encoders import CameraEncoders
from vla_ros.policies.common.every_frame import GruMemory, chunks_of_every_frame

HIDDEN = "hidden"


class BcPolicy(Policy):
    """Encodes every image of every frame, joins the features with the vectors, and regresses the whole chunk."""

    name: ClassVar[str] = "bc"
    config_class: ClassVar[type[PolicyConfig]] = BcConfig
    pads_actions: ClassVar[bool] = True
    config: BcConfig

    def __init__(self, config: BcConfig) -> None:
        super().__init__(config)
        self.encoders = CameraEncoders(
            config, config.share_encoder, lambda size: ImageEncoder(config.backbone, config.pooling, size)
        )
        image_dim = sum(self._encoder(key).feature_dim for key in config.image_keys)
        frame_dim = image_dim + config.state_dim
        self.memory = GruMemory(frame_dim, config.gru_hidden_dim) if config.gru_hidden_dim else None
        input_dim = config.gru_hidden_dim or config.n_obs_steps * frame_dim
        per_step = math.prod(config.action_objective.raw_shape)
        self.head = build_head(
            config.head, input_dim, config.hidden_dims, config.action_horizon * per_step, config.dropout
        )

    def forward(self, observation: Batch) -> Tensor:
        """Return normalised actions, float32 [B, H, A], of a normalised observation at the start of a memory."""
        return self.config.action_objective.actions(self._raw(observation)[0])

    def compute_loss(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> LossOutput:
        """Return the objective's loss, with a memory over all frames; ``terms`` holds the plain mean absolute error."""
        self.check_observation(batch)
        if self.memory is None:
            return self.config.action_objective.loss_of(self._raw(batch)[0], batch)
        raw = self._chunks(self._memories(batch).flatten(0, 1))
        return self.config.action_objective.loss_of(raw, chunks_of_every_frame(batch))

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`; deterministic in eval mode.

        With a memory, a call without state runs it over the observation's frames, as training does; a call with state
        adds the frames that are new to it. ``state["hidden"]`` is float32 [B, gru_hidden_dim].
        """
        self.check_observation(observation)
        raw, hidden_BD = self._raw(observation, None if state is None else state[HIDDEN])
        return PolicyOutput(
            self.config.action_objective.actions(raw), None if hidden_BD is None else {HIDDEN: hidden_BD}
        )

    def load_pretrained(self) -> None:
        """Read `backbone_weights`, if given, into every camera's backbone.

        Raises:
            ConfigError: The file is missing, unreadable or not this backbone's.
        """
        if self.config.backbone_weights is not None:
            for encoder in self.encoders.each():
                load_backbone_weights(cast("ImageEncoder", encoder).backbone, self.config.backbone_weights)

    def _raw(self, observation: Batch, hidden_BD: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the head's numbers, [B, H, A], of bins [B, H, A, V], and the memory after the newest frame."""
        if self.memory is None:
            parts_BTF = self._parts(observation, slice(None))
            return self._chunks(torch.cat([part.flatten(1) for part in parts_BTF], dim=1)), None
        hidden_BD = self._memories(observation, hidden_BD)[:, -1]
        return self._chunks(hidden_BD), hidden_BD

    def _memories(self, observation: Batch, hidden_BD: Tensor | None = None) -> Tensor:
        """Return the memory after each frame, [B, T, D]; with `hidden_BD`, after each from the first new one on."""
        # typed, since a module's call is not
        memory: Callable[..., Tensor] = cast("GruMemory", self.memory)
        is_pad_BT = observation.get("is_pad")
        if hidden_BD is None:
            return memory(self._features(observation, slice(None)), is_pad_BT)
        is_known_BT = observation.get("is_known")
        if is_known_BT is None:
            return memory(self._features(observation, slice(-1, None)), None, hidden_BD)
        skip_BT = is_known_BT if is_pad_BT is None else is_known_BT | is_pad_BT
        new = slice(int(skip_BT.all(dim=0).int().cumprod(dim=0).sum().clamp(max=skip_BT.shape[1] - 1)), None)
        return memory(self._features(observation, new), skip_BT[:, new], hidden_BD)

    def _features(self, observation: Batch, frames: slice) -> Tensor:
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

    def _chunks(self, features_BF: Tensor) -> Tensor:
        raw_BN: Tensor = self.head(features_BF)
        return raw_BN.view(-1, self.config.action_horizon, *self.config.action_objective.raw_shape)

    def _encoder(self, key: str) -> ImageEncoder:
        return cast("ImageEncoder", self.encoders.of(key))
