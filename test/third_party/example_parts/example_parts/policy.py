"""An architecture made of named parts, of vla_ros or of anybody."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vla_ros.networks import ImageEncoder, build_head
from vla_ros.policies import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.registry import OBJECTIVES, EncoderName, HeadName, ObjectiveName, PoolingName


@dataclass(frozen=True, kw_only=True)
class MixConfig(PolicyConfig):
    """Options of `MixPolicy`: names of parts."""

    text_kinds: ClassVar[tuple[str, ...]] = ("characters", "tokenizer")

    backbone: EncoderName = "cnn"
    pooling: PoolingName = "average"
    head: HeadName = "mlp"
    objective: ObjectiveName = "mse"
    hidden_dims: tuple[int, ...] = (8,)


class MixPolicy(Policy):
    """The newest images, vectors and words, side by side, into a head."""

    name: ClassVar[str] = "example_mix"
    config_class: ClassVar[type[PolicyConfig]] = MixConfig
    config: MixConfig

    def __init__(self, config: MixConfig) -> None:
        super().__init__(config)
        sizes = [config.inputs[key].shape[:2] for key in config.image_keys]
        self.encoders = nn.ModuleList(ImageEncoder(config.backbone, config.pooling, size) for size in sizes)
        self.words = nn.Embedding(config.text.n_tokens, 4) if config.text is not None else None
        width = sum(encoder.feature_dim for encoder in self.encoders) + config.state_dim + 4 * bool(self.words)
        self.head = build_head(config.head, width, config.hidden_dims, config.action_horizon * config.action_dim, 0.0)

    def forward(self, observation: Batch) -> Tensor:
        """Return normalised actions, float [B, H, A]."""
        newest = {key: observation[key][:, -1] for key in self.config.inputs}
        parts = [encoder(newest[key]) for encoder, key in zip(self.encoders, self.config.image_keys, strict=True)]
        parts += [newest[key] for key, spec in self.config.inputs.items() if spec.kind == "vector"]
        if self.words is not None:
            parts.append((self.words(observation["task_tokens"]) * observation["task_mask"][..., None]).sum(dim=1))
        actions: Tensor = self.head(torch.cat(parts, dim=1))
        return actions.unflatten(1, (self.config.action_horizon, self.config.action_dim))

    def compute_loss(self, batch: Batch, generator: Any = None) -> LossOutput:
        """Return the objective's loss."""
        self.check_observation(batch)
        objective = OBJECTIVES[self.config.objective]
        return LossOutput(objective(self(batch), batch["action"], batch["action_is_pad"]))

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,
        generator: Any = None,
    ) -> PolicyOutput:
        """Predict; nothing is sampled or remembered."""
        self.check_observation(observation)
        return PolicyOutput(self(observation))
