"""The multi-sensor policy: cameras, LiDAR, radar, IMU and more, fused; with a recurrent state, a history or a memory.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, F features, K memory slots.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_ros.networks import mlp
from vla_ros.networks.heads.noise_input import noise_dim, with_noise
from vla_ros.networks.heads.trajectory import Trajectories, TrajectoryHead, trajectory_loss
from vla_ros.networks.sensors import SensorTokens, VectorToken
from vla_ros.networks.temporal import HistoryEncoder, Memory, MemoryBuffer
from vla_ros.objectives import l1
from vla_ros.objectives.noise import Noised
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState, Request
from vla_ros.policies.common.action_objective import repeated
from vla_ros.policies.common.every_frame import GruMemory, chunks_of_every_frame
from vla_ros.policies.common.observation_tokens import build_sensor_encoders
from vla_ros.policies.common.text_input import sentence_vectors, text_sequence
from vla_ros.policies.multi_sensor.config import MultiSensorConfig
from vla_ros.policies.multi_sensor.model import MultiSensorVLA
from vla_ros.policies.multi_sensor.vision import BevTokens, MapTokens
from vla_ros.processors import TextSpec

HIDDEN, LAST_CHUNK, PAST = "hidden", "last_chunk", "past_action"
MEMORY = tuple(f"memory.{name}" for name in Memory._fields)


class MultiSensorPolicy(Policy):
    """Fuses each frame's sensors; what came before joins by a GRU, a history or a memory; a head predicts the chunk."""

    name: ClassVar[str] = "multi_sensor"
    config_class: ClassVar[type[PolicyConfig]] = MultiSensorConfig
    config: MultiSensorConfig

    def __init__(self, config: MultiSensorConfig) -> None:
        super().__init__(config)
        width = config.width
        self.objective = config.action_objective
        encoders: dict[str, nn.Module] = {}
        if config.image_keys:
            encoders["vision"] = MapTokens(config) if config.bev is None else BevTokens(config, config.bev)
        encoders |= build_sensor_encoders(config, width)
        if config.vector_keys:
            encoders["state"] = VectorToken((config.state_dim,), width)
        if config.text is not None:
            encoders["instruction"] = InstructionTokens(config.text, width)
        self.model = MultiSensorVLA(
            encoders,
            width=width,
            n_heads=config.n_heads,
            fusion=config.fusion,
            n_fusion_layers=config.n_fusion_layers,
            scene=config.scene,
            optional=config.optional,
            modality_dropout=config.modality_dropout if config.optional else 0.0,
            n_queries=config.n_queries,
            head=self._head(config.n_queries * width),
        )
        features = self.model.feature_dim
        self.gru = GruMemory(features, features) if config.temporal == "gru" else None
        self.history = (
            HistoryEncoder(features, config.action_dim, features, n_heads=config.n_heads)
            if config.temporal == "history"
            else None
        )
        memory = config.memory
        self.memory = (
            MemoryBuffer(features, memory.capacity, memory.period_s, memory.overflow, n_heads=config.n_heads)
            if memory is not None
            else None
        )

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the head's loss, of every frame where a state is carried."""
        features_BTF = self._frames(batch, slice(None), generator)
        if self.config.trains_every_frame:
            context_BF, _ = self._through_time(features_BTF, batch.get("is_pad"), {})
            return self._loss(context_BF.flatten(0, 1), chunks_of_every_frame(batch), generator)
        if self.history is not None:
            context_BF = self.history(features_BTF, batch["past_action"], batch.get("is_pad"))
            return self._loss(context_BF, batch, generator)
        return self._loss(features_BTF[:, -1], batch, generator)

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict; but for sampled noise, deterministic in eval mode.

        Without state a GRU or a memory runs over all frames of the observation, with one over those that are new to it.
        """
        state = request.state
        if self.history is not None:
            return self._predict_by_history(self.history, observation, request)
        if not self.config.trains_every_frame:
            features_BF = self._frames(observation, slice(-1, None))[:, -1]
            return PolicyOutput(self._actions(features_BF, request), None, {"features": features_BF})
        skip_BT = self._known(observation, state)
        first = int(skip_BT.all(dim=0).int().cumprod(dim=0).sum().clamp(max=skip_BT.shape[1] - 1))
        features_BTF = self._frames(observation, slice(first, None))
        context_BTF, after = self._through_time(features_BTF, skip_BT[:, first:], state or {})
        context_BF = context_BTF[:, -1]
        return PolicyOutput(self._actions(context_BF, request), after, {"features": context_BF})

    def _frames(self, observation: Batch, frames: slice, generator: torch.Generator | None = None) -> Tensor:
        """Return the fused features of frames, float [B, frames, F]."""
        config = self.config
        chosen = {key: observation[key][:, frames] for key in config.inputs if key in observation}
        batch, length = next(iter(chosen.values())).shape[:2]
        flat = {key: value.flatten(0, 1) for key, value in chosen.items()}
        values: dict[str, Any] = {key: flat[key] for key in config.encoded_inputs if key in flat}
        if config.image_keys:
            values["vision"] = [flat[key] for key in config.image_keys]
        if config.vector_keys:
            values["state"] = torch.cat([flat[key] for key in config.vector_keys], dim=-1)
        if config.text is not None:
            values["instruction"] = _instruction(observation, config.text, length)
        features: Tensor = self.model.features(self.model.encode(values), generator)
        return features.reshape(batch, length, -1)

    def _through_time(
        self, features_BTF: Tensor, skip_BT: Tensor | None, state: PolicyState
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return each frame's context, float [B, T, F], and the state after the last; skipped frames change none."""
        if skip_BT is None:
            skip_BT = torch.zeros(features_BTF.shape[:2], dtype=torch.bool, device=features_BTF.device)
        after: dict[str, Tensor] = {}
        if self.gru is not None:
            features_BTF = self.gru(features_BTF, skip_BT, state.get(HIDDEN))
            after[HIDDEN] = features_BTF[:, -1]
        if self.memory is None or self.config.memory is None:
            return features_BTF, after
        memory = Memory(*(state[name] for name in MEMORY)) if MEMORY[0] in state else None
        if memory is None:
            memory = self.memory.empty(len(features_BTF), features_BTF)
        limit, contexts = self.config.memory.backprop_ticks, []
        for step, frame_BF in enumerate(features_BTF.unbind(1)):
            contexts.append(self.memory(frame_BF[:, None], memory)[:, 0])
            if limit is not None and step % limit == 0:
                memory = Memory(*(part.detach() for part in memory))
            written = self.memory.write(memory, frame_BF, self.config.frame_period_s)
            keep_B = skip_BT[:, step]
            memory = Memory(
                *(
                    torch.where(keep_B.reshape(-1, *[1] * (new.ndim - 1)), old, new)
                    for new, old in zip(written, memory, strict=True)
                )
            )
        return torch.stack(contexts, dim=1), after | dict(zip(MEMORY, memory, strict=True))

    def _known(self, observation: Batch, state: PolicyState | None) -> Tensor:
        """Return the frames that change no state, bool [B, T]: padding, and those that made the state."""
        like = observation[next(key for key in self.config.inputs if key in observation)]
        skip_BT = observation.get("is_pad")
        if skip_BT is None:
            skip_BT = torch.zeros(like.shape[:2], dtype=torch.bool, device=like.device)
        if state is None:
            return skip_BT
        is_known_BT = observation.get("is_known")
        if is_known_BT is None:
            is_known_BT = torch.ones_like(skip_BT)
            is_known_BT[:, -1] = False
        return skip_BT | is_known_BT

    def _predict_by_history(self, history: HistoryEncoder, observation: Batch, request: Request) -> PolicyOutput:
        """Predict from all frames; the actions between them are those of the chunks predicted before."""
        state = request.state
        features_BTF = self._frames(observation, slice(None))
        batch, length, _ = features_BTF.shape
        past_BTA = features_BTF.new_zeros(batch, length - 1, self.config.action_dim)
        is_pad_BT = observation.get("is_pad")
        if state is not None:
            known = observation.get("is_known")
            new = length - int(known[0].sum()) if known is not None else 1
            taken = torch.cat([state[PAST], state[LAST_CHUNK][:, :new]], dim=1)
            past_BTA = taken[:, -(length - 1) :] if length > 1 else past_BTA
        actions_BHA = self._actions(history(features_BTF, past_BTA, is_pad_BT), request)
        return PolicyOutput(actions_BHA, {PAST: past_BTA, LAST_CHUNK: actions_BHA})

    def _head(self, features: int) -> nn.Module:
        config = self.config
        if config.head == "trajectory":
            return TrajectoryHead(features, config.action_horizon, config.n_modes, config.hidden_dims)
        if self.objective.is_denoising:
            features += noise_dim(config.action_horizon, config.action_dim)
        return mlp(features, config.hidden_dims, config.action_horizon * math.prod(self.objective.raw_shape))

    def _actions(self, context_BF: Tensor, request: Request) -> Tensor:
        if self.config.head == "trajectory":
            best_BHA: Tensor = self.model.head(context_BF).best()
            return best_BHA
        return self.objective.sample(lambda noised: self._chunks(context_BF, noised), request)

    def _loss(self, context_BF: Tensor, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        if self.config.head == "chunk":
            return self.objective.train(lambda noised: self._chunks(context_BF, noised), batch, generator)
        said: Trajectories = self.model.head(context_BF)
        target_BHA, is_pad_BH = batch["action"], batch["action_is_pad"]
        waypoints, choice = trajectory_loss(said, target_BHA, is_pad_BH)
        target_BHA = target_BHA.masked_fill(is_pad_BH[..., None], 0.0)
        terms = {"l1": l1(said.best().detach(), target_BHA, is_pad_BH), "modes": choice.detach()}
        return LossOutput(waypoints + choice, terms)

    def _chunks(self, context_BF: Tensor, noised: Noised | None = None) -> Tensor:
        if noised is not None:
            context_BF = with_noise(repeated(context_BF, noised), noised.noised_BHA, noised.time_B)
        numbers_BN: Tensor = self.model.head(context_BF)
        return numbers_BN.view(-1, self.config.action_horizon, *self.objective.raw_shape)


class InstructionTokens(nn.Module):
    """An instruction's vectors, or its tokens' embeddings, in the model's width."""

    def __init__(self, spec: TextSpec, width: int) -> None:
        super().__init__()
        self.width = width
        self.input: nn.Module = (
            nn.Embedding(spec.n_tokens, width) if spec.is_tokens else nn.Linear(spec.embedding_width, width)
        )
        self.positions = nn.Parameter(torch.randn(1 if spec.form == "vector" else spec.length, width) * 0.02)

    def forward(self, text: Sequence[Tensor]) -> SensorTokens:
        """Return tokens of (values, valid [B, L]): int64 [B, L] tokens or float [B, L, E] vectors."""
        values, valid_BL = text
        tokens_BLD = self.input(values) + self.positions[: valid_BL.shape[1]]
        return SensorTokens(torch.where(valid_BL[..., None], tokens_BLD, 0.0), valid_BL)


def _instruction(observation: Batch, spec: TextSpec, frames: int) -> tuple[Tensor, Tensor]:
    """Return an instruction's values and validity, [B, L, ...] and bool [B, L], for every frame of each sample."""
    if spec.form == "vector":
        values = sentence_vectors(observation, spec)[:, None]
        valid_BL = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    else:
        values, valid_BL = text_sequence(observation, spec)
    return values.repeat_interleave(frames, dim=0), valid_BL.repeat_interleave(frames, dim=0)
