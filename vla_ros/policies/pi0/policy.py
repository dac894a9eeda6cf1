"""π₀: images and text through a language model, proprioception and actions through an expert, one attention for both.

Axis legend: B batch, H action_horizon, A action_dim, C tokens of the context, L all tokens.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from vla_ros.networks import (
    Context,
    Segment,
    block_causal_mask,
    block_starts,
    encode_context,
    joint_attention,
    token_positions,
)
from vla_ros.networks.language.prefix_layout import PrefixLayout
from vla_ros.objectives.noise import Noised
from vla_ros.policies.base import MOST_STEPS, Batch, LossOutput, PolicyConfig, PolicyOutput, Request
from vla_ros.policies.common.flow_policy import FlowPolicy, named_context, named_segments
from vla_ros.policies.common.multimodal import MultimodalConfig
from vla_ros.schema import About


@dataclass(frozen=True, kw_only=True)
class Pi0Config(MultimodalConfig):
    """Options of `Pi0Policy`: all of `MultimodalConfig`'s. The defaults are the published sizes."""

    action_horizon: Annotated[int, About("H, steps predicted.", at_least=1, at_most=MOST_STEPS)] = 50


class Pi0Policy(FlowPolicy):
    """Predicts the velocity that carries noise to an action chunk, given images, text and proprioception."""

    name: ClassVar[str] = "pi0"
    config_class: ClassVar[type[PolicyConfig]] = Pi0Config
    pads_actions: ClassVar[bool] = True
    masks_cameras: ClassVar[bool] = True
    config: Pi0Config

    @property
    def layout(self) -> PrefixLayout:
        """What stands where, the chunk last."""
        return super().layout.then(("actions", self.config.action_horizon, True))

    def joint_velocity(self, context: Context, noised_BHA: Tensor, time_B: Tensor, valid_BH: Tensor) -> Tensor:
        """Predict velocities, float [B, H, A], with all segments in one pass: what training does, and no cache.

        Args:
            context: Embedded, not encoded.
            noised_BHA: Points on the path, float [B, H, A].
            time_B: Their times, float [B].
            valid_BH: bool [B, H], False for padded steps.
        """
        segments = [*context.segments, Segment(self.action_expert, self.flow.embed(noised_BHA, time_B))]
        valid_BL = torch.cat([context.valid_BC, valid_BH], dim=1)
        starts_L = block_starts([*context.lengths, valid_BH.shape[1]], valid_BL.device)
        outputs, _ = joint_attention(segments, token_positions(valid_BL), block_causal_mask(starts_L, valid_BL))
        return self.flow.velocity(outputs[-1])

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the loss of the config's objective; what it is asked about is drawn from `generator`."""
        context = self.embed_training_context(batch, generator)

        def predict(noised: Noised | None) -> Tensor:
            asked = self.question(noised, batch["action_is_pad"])
            count = len(asked.noised_BHA) // len(context.valid_BC)
            if count == 1:
                return self.outputs(self.joint_velocity(context, asked.noised_BHA, asked.time_B, asked.valid_BH))
            # nothing in the context sees the actions: all draws of a sample share it
            encoded = encode_context(context).repeated(count)
            return self.outputs(self.velocity(asked.noised_BHA, asked.time_B, encoded, asked.valid_BH))

        return self.objective.train(predict, batch, generator)

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict: the context is encoded once, then the action tokens go from noise to actions."""
        context, tokens, after = self.assemble_context(observation, request.state)
        encoded = encode_context(context)
        actions_BHA = self.sample_flow(encoded, request.generator, request.dim_is_pad_BA, request.prefix_BPA)
        return PolicyOutput(actions_BHA, after, named_context(context), named_segments(context, tokens))
