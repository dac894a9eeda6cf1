"""Flow matching by the action expert and action tokens by the language model, on one context.

Axis legend: B batch, H action_horizon, A action_dim, R = H × A action tokens, C tokens of the context, V bins.
"""

from typing import ClassVar, cast

import torch
from torch import Tensor

from vla_ros.networks import Context, EncodedContext, Segment, continue_context, encode_context, joint_attention
from vla_ros.objectives import DiffusionDraw, FlowDraw, Noised, cross_entropy
from vla_ros.policies.base import Batch, LossOutput, PolicyConfig, PolicyOutput, Request
from vla_ros.policies.common.flow_policy import FlowPolicy, named_context, named_segments
from vla_ros.policies.flow_ar.action_tokens import ActionTokens
from vla_ros.policies.flow_ar.config import FlowArConfig
from vla_ros.policies.flow_ar.sequence import joint_layout


class FlowArPolicy(FlowPolicy):
    """Predicts a chunk as a flow and, independently, as a sequence of binned numbers; either can be used alone."""

    name: ClassVar[str] = "flow_ar"
    config_class: ClassVar[type[PolicyConfig]] = FlowArConfig
    config: FlowArConfig

    def __init__(self, config: FlowArConfig) -> None:
        super().__init__(config)
        self.bins = config.action_bins
        self.n_tokens = config.action_horizon * config.action_dim
        self.action_tokens = ActionTokens(config.bins, self.n_tokens, config.prefix_expert.width)

    def joint(
        self,
        context: Context,
        draw: Noised | FlowDraw | DiffusionDraw | None,
        bins_BR: Tensor | None,
        token_valid_BR: Tensor | None = None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Run the context and one or both decoders in one pass, with no cache.

        Args:
            context: Embedded, not encoded.
            draw: Points on the flow's path; None leaves that decoder out.
            bins_BR: The action's bins, int64 [B, R], teacher-forced; None leaves that decoder out.
            token_valid_BR: bool [B, R], False for padded steps; None for none.

        Returns:
            Velocities, float [B, H, A], and logits, float [B, R, V]; None for a decoder left out.
        """
        segments = list(context.segments)
        flow_valid_BH = context.valid_BC[:, :0]
        valid_BR = context.valid_BC[:, :0]
        if draw is not None:
            segments.append(Segment(self.action_expert, self.flow.embed(draw.noised_BHA, draw.time_B)))
            flow_valid_BH = torch.ones_like(draw.noised_BHA[..., 0], dtype=torch.bool)
            flow_valid_BH = flow_valid_BH if draw.is_pad_BH is None else ~draw.is_pad_BH
        if bins_BR is not None:
            segments.append(self._teacher_forced(bins_BR))
            valid_BR = torch.ones_like(bins_BR, dtype=torch.bool) if token_valid_BR is None else token_valid_BR
        allow_BLL, positions_BL = joint_layout(context.lengths, context.valid_BC, flow_valid_BH, valid_BR)
        outputs, _ = joint_attention(segments, positions_BL, allow_BLL)
        velocity_BHA = None if draw is None else self.flow.velocity(outputs[len(context.segments)])
        return velocity_BHA, None if bins_BR is None else self.action_tokens.logits(outputs[-1])

    def logits(self, bins_BR: Tensor, encoded: EncodedContext, token_valid_BR: Tensor | None = None) -> Tensor:
        """Return teacher-forced logits, float [B, R, V], after an encoded context; arguments as in `joint`."""
        valid_BR = torch.ones_like(bins_BR, dtype=torch.bool) if token_valid_BR is None else token_valid_BR
        outputs_BRD, _ = continue_context(encoded, self._teacher_forced(bins_BR), valid_BR, [1] * self.n_tokens)
        return self.action_tokens.logits(outputs_BRD)

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the weighted sum of both losses; ``terms`` holds each, unweighted."""
        config = self.config
        context = self.embed_training_context(batch, generator)
        action_BHA, is_pad_BH = batch["action"], batch["action_is_pad"]
        bins_BR = None
        if config.autoregressive_weight:
            bins_BR = self.bins.encode(action_BHA.masked_fill(is_pad_BH[..., None], 0.0)).flatten(1)
        token_valid_BR = (~is_pad_BH).repeat_interleave(config.action_dim, dim=1)
        answered: list[Tensor | None] = []

        def predict(noised: Noised | None) -> Tensor:
            asked = self.question(noised, is_pad_BH)
            run = self.joint if len(asked.noised_BHA) == len(is_pad_BH) else self._apart
            velocity_BHN, logits_BRV = run(context, asked, bins_BR, token_valid_BR)
            answered.append(logits_BRV)
            return self.outputs(cast("Tensor", velocity_BHN))

        loss, terms = action_BHA.new_zeros(()), {}
        if config.flow_weight:
            flow = self.objective.train(predict, batch, generator)
            loss, terms = loss + config.flow_weight * flow.loss, dict(flow.terms)
        else:
            answered.append(self.joint(context, None, bins_BR, token_valid_BR)[1])
        logits_BRV = answered[0]
        if bins_BR is not None and logits_BRV is not None:
            shape = action_BHA.shape
            terms["cross_entropy"] = cross_entropy(logits_BRV.view(*shape, -1), bins_BR.view(shape), is_pad_BH)
            loss = loss + config.autoregressive_weight * terms["cross_entropy"]
        return LossOutput(loss, {name: term.detach() for name, term in terms.items()})

    @property
    def follows_prefix(self) -> bool:
        """Whether later steps take committed ones into account."""
        return self.config.decode == "autoregressive" or super().follows_prefix

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict by the decoder of the config's ``decode``."""
        context, tokens, after = self.assemble_context(observation, request.state)
        encoded = encode_context(context)
        named, segments = named_context(context), named_segments(context, tokens)
        if self.config.decode == "flow":
            actions_BHA = self.sample_flow(encoded, request.generator, request.dim_is_pad_BA, request.prefix_BPA)
            return PolicyOutput(actions_BHA, after, named, segments)
        bins_BR = self.sample_bins(encoded, request.generator, self.bins.encode(request.prefix_BPA).flatten(1))
        shape = (len(bins_BR), self.config.action_horizon, self.config.action_dim)
        return PolicyOutput(self.bins.decode(bins_BR.view(shape)), after, {**named, "bins": bins_BR}, segments)

    def sample_bins(
        self, encoded: EncodedContext, generator: torch.Generator | None = None, known_BR: Tensor | None = None
    ) -> Tensor:
        """Decode action tokens one by one, each pass over one token only.

        Args:
            encoded: The context.
            generator: Source of chance.
            known_BR: The first bins where they are known already, int64 [B, R' ≤ R]; the others follow them.

        Returns:
            Bins, int64 [B, R].
        """
        one_valid_B1 = torch.ones_like(encoded.valid_BC[:, :1])
        fed_B1 = torch.full_like(one_valid_B1, self.action_tokens.beginning, dtype=torch.long)
        chosen = []
        for place in range(self.n_tokens):
            segment = Segment(self.prefix_expert, self.action_tokens.embed(fed_B1, place))
            outputs_B1D, keys_values = continue_context(encoded, segment, one_valid_B1, [1])
            encoded = encoded.followed_by(keys_values, one_valid_B1)
            if known_BR is not None and place < known_BR.shape[1]:
                fed_B1 = known_BR[:, place : place + 1]
            else:
                fed_B1 = self._choose(self.action_tokens.logits(outputs_B1D)[:, 0], generator)
            chosen.append(fed_B1)
        return torch.cat(chosen, dim=1)

    def _choose(self, logits_BV: Tensor, generator: torch.Generator | None) -> Tensor:
        if not self.config.temperature:
            return logits_BV.argmax(dim=-1, keepdim=True)
        share_BV = torch.softmax(logits_BV / self.config.temperature, dim=-1)
        source = share_BV if generator is None else share_BV.to(generator.device)
        return torch.multinomial(source, 1, generator=generator).to(logits_BV.device)

    def _apart(
        self,
        context: Context,
        draw: Noised | FlowDraw | DiffusionDraw | None,
        bins_BR: Tensor | None,
        token_valid_BR: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None]:
        """Run the decoders one after the other on one encoded context, which all draws of a sample share."""
        encoded = encode_context(context)
        velocity_BHA = logits_BRV = None
        if draw is not None:
            repeated = encoded.repeated(self.config.flow_samples)
            valid_BH = None if draw.is_pad_BH is None else ~draw.is_pad_BH
            velocity_BHA = self.velocity(draw.noised_BHA, draw.time_B, repeated, valid_BH)
        if bins_BR is not None:
            logits_BRV = self.logits(bins_BR, encoded, token_valid_BR)
        return velocity_BHA, logits_BRV

    def _teacher_forced(self, bins_BR: Tensor) -> Segment:
        return Segment(self.prefix_expert, self.action_tokens.embed(self.action_tokens.shifted(bins_BR)))
