"""π₀: images and text through a language model, proprioception and actions through an expert, one attention for both.

Axis legend: B batch, H action_horizon, A action_dim, C tokens of the context, L all tokens.
"""

from typing import ClassVar

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
from vla_ros.policies.base import Batch, LossOutput, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.policies.common.flow_policy import FlowPolicy
from vla_ros.policies.pi0.config import Pi0Config
from vla_ros.processors import ACTION_DIM_IS_PAD


class Pi0Policy(FlowPolicy):
    """Predicts the velocity that carries noise to an action chunk, given images, text and proprioception."""

    name: ClassVar[str] = "pi0"
    config_class: ClassVar[type[PolicyConfig]] = Pi0Config
    pads_actions: ClassVar[bool] = True
    masks_cameras: ClassVar[bool] = True
    config: Pi0Config

    def __init__(self, config: Pi0Config) -> None:
        super().__init__(config)

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

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Return the loss of the config's objective; what it is asked about is drawn from `generator`."""
        self.check_observation(batch)
        context = self.embed_training_context(batch, generator)
        draws = self.config.flow_samples
        draw = self.draw(batch, generator)
        valid_BH = ~draw.is_pad_BH
        if draws == 1:
            velocity_BHA = self.joint_velocity(context, draw.noised_BHA, draw.time_B, valid_BH)
        else:  # nothing in the context sees the actions: all draws of a sample share it
            encoded = encode_context(context).repeated(draws)
            velocity_BHA = self.velocity(draw.noised_BHA, draw.time_B, encoded, valid_BH)
        loss = draw.loss(velocity_BHA)
        return LossOutput(loss, {self.loss_name: loss.detach()})

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,  # noqa: ARG002  # nothing is remembered
        generator: torch.Generator | None = None,
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`; noise comes from `generator`, no state."""
        self.check_observation(observation)
        encoded = encode_context(self.embed_context(observation))
        return PolicyOutput(self.sample_flow(encoded, generator, observation.get(ACTION_DIM_IS_PAD)))
