"""The common part of policies in which a language-model expert meets an action expert that takes noise to actions.

It builds the parts, embeds an observation, draws what training asks, and goes from noise to actions. What is predicted
beside it, how segments are laid out in training, and the loss are each architecture's own.

Axis legend: B batch, H action_horizon, A action_dim, T n_obs_steps, S state_dim, C tokens of the context.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.contract import GOAL_IMAGE
from vla_ros.networks import (
    CameraTokens,
    Context,
    EncodedContext,
    Expert,
    FlowTokens,
    PatchTokens,
    Segment,
    TextTokens,
    block_causal_mask,
    block_starts,
    continue_context,
)
from vla_ros.networks.language.prefix_layout import PrefixLayout
from vla_ros.networks.language.pretrained import copy_gemma, copy_patch_tokens, load_transformers
from vla_ros.objectives.noise import Noised
from vla_ros.policies.base import Batch, Policy, PolicyState, Request
from vla_ros.policies.common.multimodal import GOAL_KEY, MultimodalConfig, draw_goal_dropout, read_observation
from vla_ros.policies.common.observation_tokens import ObservationTokens, TokenAssembler, TokenPart


class FlowPolicy(Policy):
    """Base of policies with a flow-matching action expert beside a language model's.

    What the expert predicts is called velocity here. With ``objective: diffusion`` it is the noise in a noisy chunk,
    whose time is the ratio of noise levels below, near 1 for pure noise; with a regression or bins, the actions or
    their logits, and the expert is asked about a chunk of zeros at time 0.
    """

    config: MultimodalConfig

    def __init__(self, config: MultimodalConfig) -> None:
        super().__init__(config)
        width, action_width = config.prefix_expert.width, config.action_expert.width
        self.objective = config.action_objective
        self.cameras = CameraTokens(config.vision, config.image_sizes, config.camera_of_image, width)
        self.text = TextTokens(config.text.n_tokens, width) if config.text is not None else None
        self.state = nn.Linear(config.state_dim, action_width) if config.state_dim else None
        self.assemble = TokenAssembler(config, width)
        self.flow = FlowTokens(config.action_dim, action_width, math.prod(self.objective.raw_shape))
        self.prefix_expert = Expert(config.prefix_expert, config.attention)
        self.action_expert = Expert(config.action_expert, config.attention)

    @property
    def layout(self) -> PrefixLayout:
        """What stands where before the actions: images, text and other sensors as one block, then proprioception."""
        config = self.config
        frames = [f" {frame}" if config.n_obs_steps > 1 else "" for frame in range(config.n_obs_steps)]
        names = [f"{key}{frame}" for key in config.camera_keys for frame in frames]
        names += [GOAL_IMAGE] if config.has_goal else []
        spans = [(name, count, 0, True) for name, count in zip(names, self.cameras.tokens_of_image, strict=True)]
        if config.text is not None:
            spans.append(("text", config.text.length, 0, True))
        if self.assemble.tokens_per_frame:
            spans.append(("other sensors", config.n_obs_steps * self.assemble.tokens_per_frame, 0, True))
        layout = PrefixLayout.of(*spans)
        return layout.then(("proprioception", config.n_obs_steps, True)) if config.state_dim else layout

    def embed_context(self, observation: Batch, drop_goal_B: Tensor | None = None) -> Context:
        """Return the segments [images, text, other sensors] and [proprioception] of an observation.

        Args:
            observation: Checked.
            drop_goal_B: bool [B], True where the goal image is to be hidden.
        """
        return self.assemble_context(observation, None, drop_goal_B)[0]

    def assemble_context(
        self, observation: Batch, state: PolicyState | None, drop_goal_B: Tensor | None = None
    ) -> tuple[Context, ObservationTokens, dict[str, Tensor] | None]:
        """Return the context as `embed_context` does, the first segment's tokens, and what is remembered."""
        parts = read_observation(observation, self.config, drop_goal_B)
        own = self._image_parts(*self.cameras(parts.images, parts.image_valid_BI))
        if self.text is not None and parts.text_BL is not None and parts.text_valid_BL is not None:
            own.append(TokenPart("text", self.text(parts.text_BL, parts.text_valid_BL), parts.text_valid_BL))
        tokens, after = self.assemble(own, observation, state)
        segments = [Segment(self.prefix_expert, tokens.tokens_BLD)]
        valid = torch.cat([part.mask_BN for part in tokens.parts], dim=1)
        if self.state is not None:
            segments.append(Segment(self.action_expert, self.state(parts.state_BTS)))
            valid = torch.cat([valid, parts.state_valid_BT], dim=1)
        return Context(tuple(segments), valid), tokens, after

    def _image_parts(self, tokens_BPD: Tensor, valid_BP: Tensor) -> list[TokenPart]:
        """Return the tokens of all images, camera by camera, each frame a part; the goal last."""
        keys = [key for key in self.config.camera_keys for _ in range(self.config.n_obs_steps)]
        keys += [GOAL_KEY] if self.config.has_goal else []
        counts = self.cameras.tokens_of_image
        pieces = zip(
            torch.split_with_sizes(tokens_BPD, counts, 1), torch.split_with_sizes(valid_BP, counts, 1), strict=True
        )
        return [TokenPart(key, *piece) for key, piece in zip(keys, pieces, strict=True)]

    def embed_training_context(self, batch: Batch, generator: torch.Generator | None) -> Context:
        """Return the context of a training batch, with goal images dropped at random as the config says."""
        action_BHA = batch["action"]
        drop_B = draw_goal_dropout(self.config, len(action_BHA), generator, action_BHA.device)
        return self.embed_context(batch, drop_B)

    def question(self, noised: Noised | None, is_pad_BH: Tensor) -> Noised:
        """Return what the expert is asked about: noisy chunks, or where there are none, zeros at time 0."""
        if noised is not None:
            return noised
        zeros_BHA = torch.zeros(*is_pad_BH.shape, self.config.action_dim, device=is_pad_BH.device)
        return Noised(zeros_BHA, zeros_BHA[:, 0, 0], is_pad_BH)

    def outputs(self, velocity_BHN: Tensor) -> Tensor:
        """Return the expert's numbers as the objective has them: [B, H, A], of bins [B, H, A, V]."""
        return velocity_BHN.view(*velocity_BHN.shape[:2], *self.objective.raw_shape)

    def velocity(
        self, noised_BHA: Tensor, time_B: Tensor, encoded: EncodedContext, valid_BH: Tensor | None = None
    ) -> Tensor:
        """Predict velocities, float [B, H, A], after an encoded context.

        Args:
            noised_BHA: Points on the path, float [B, H, A].
            time_B: Their times, float [B].
            encoded: Of the same batch.
            valid_BH: bool [B, H], False for padded steps; None for none.
        """
        tokens_BHD = self.flow.embed(noised_BHA, time_B)
        if valid_BH is None:
            valid_BH = torch.ones(tokens_BHD.shape[:2], dtype=torch.bool, device=tokens_BHD.device)
        segment = Segment(self.action_expert, tokens_BHD)
        outputs_BHD, _ = continue_context(encoded, segment, valid_BH, [tokens_BHD.shape[1]])
        return self.flow.velocity(outputs_BHD)

    def sample_flow(
        self,
        encoded: EncodedContext,
        generator: torch.Generator | None,
        dim_is_pad_BA: Tensor | None = None,
        prefix_BPA: Tensor | None = None,
    ) -> Tensor:
        """Return normalised actions, float [B, H, A], by the config's objective; one action pass per step.

        Args:
            encoded: The context.
            generator: Source of noise.
            dim_is_pad_BA: bool [B, A], True for numbers that a sample's robot does not have: 0 at every step, as in
                training.
            prefix_BPA: Committed actions, float [B, P, A]; None for none.
        """
        batch_size, device = len(encoded.valid_BC), encoded.valid_BC.device
        if prefix_BPA is None:
            prefix_BPA = torch.zeros(batch_size, 0, self.config.action_dim, device=device)
        is_pad_BH = torch.zeros(batch_size, self.config.action_horizon, dtype=torch.bool, device=device)

        def predict(noised: Noised | None) -> Tensor:
            asked = self.question(noised, is_pad_BH)
            return self.outputs(self.velocity(asked.noised_BHA, asked.time_B, encoded))

        return self.objective.sample(predict, Request(None, generator, prefix_BPA, dim_is_pad_BA))

    def load_pretrained(self) -> None:
        """Start from the Gemma, SigLIP or PaliGemma that the config names.

        Raises:
            ConfigError: It cannot be read, or its sizes differ from the config's.
        """
        names = (self.config.pretrained_language, self.config.pretrained_vision)
        models = {name: load_transformers(name) for name in {*names} if name is not None}
        if names[0] is not None:
            copy_gemma(models[names[0]], self.prefix_expert, self.text.embedding if self.text is not None else None)
        if names[1] is not None:
            for encoder in self.cameras.encoders:
                copy_patch_tokens(models[names[1]], cast(PatchTokens, encoder))  # the config refuses other kinds


def named_context(context: Context) -> dict[str, Tensor]:
    """Return what is to be seen of a context: tokens of each segment, the mask among them, and which are valid."""
    starts_L = block_starts(context.lengths, context.valid_BC.device)
    names = ("tokens", "state_tokens")
    tokens = {name: segment.tokens_BLD for name, segment in zip(names, context.segments, strict=False)}
    return {**tokens, "mask": block_causal_mask(starts_L, context.valid_BC), "valid": context.valid_BC}


def named_segments(context: Context, tokens: ObservationTokens) -> tuple[tuple[str, int], ...]:
    """Return what the context's tokens stand for."""
    return (*tokens.segments, *(("state", length) for length in context.lengths[1:]))
