"""The common part of policies in which a language-model expert meets an action expert that takes noise to actions.

It builds the parts, embeds an observation, draws what training asks, and goes from noise to actions. What is predicted
beside it, how segments are laid out in training, and the loss are each architecture's own.

Axis legend: B batch, H action_horizon, A action_dim, T n_obs_steps, S state_dim, C tokens of the context.
"""

from typing import cast

import torch
from torch import Tensor, nn

from vla_ros.networks import (
    CameraTokens,
    Context,
    EncodedContext,
    Expert,
    FlowTokens,
    PatchTokens,
    Segment,
    TextTokens,
    continue_context,
)
from vla_ros.networks.language.prefix_layout import PrefixLayout
from vla_ros.networks.language.pretrained import copy_gemma, copy_patch_tokens, load_transformers
from vla_ros.objectives import DiffusionDraw, FlowDraw, draw_flow, integrate_flow, sample_noise
from vla_ros.policies.base import Batch, Policy
from vla_ros.policies.common.multimodal import GOAL_KEY, MultimodalConfig, draw_goal_dropout, read_observation
from vla_ros.processors import ACTION_DIM_IS_PAD


class FlowPolicy(Policy):
    """Base of policies with a flow-matching action expert beside a language model's.

    With the config's ``objective: diffusion``, what the expert predicts, and is called velocity here, is the noise in a
    noisy chunk; its time is the share of noise levels below, near 1 for pure noise.
    """

    config: MultimodalConfig

    def __init__(self, config: MultimodalConfig) -> None:
        super().__init__(config)
        width, action_width = config.prefix_expert.width, config.action_expert.width
        self.cameras = CameraTokens(config.vision, config.image_sizes, config.camera_of_image, width)
        self.text = TextTokens(config.text.n_tokens, width) if config.text is not None else None
        self.state = nn.Linear(config.state_dim, action_width) if config.state_dim else None
        self.flow = FlowTokens(config.action_dim, action_width)
        self.prefix_expert = Expert(config.prefix_expert, config.attention)
        self.action_expert = Expert(config.action_expert, config.attention)
        self.diffusion = config.diffusion
        self.loss_name = "flow" if self.diffusion is None else "diffusion"

    @property
    def layout(self) -> PrefixLayout:
        """What stands where before the actions: images and text as one block, then proprioception."""
        config = self.config
        frames = [f" {frame}" if config.n_obs_steps > 1 else "" for frame in range(config.n_obs_steps)]
        names = [f"{key}{frame}" for key in config.camera_keys for frame in frames]
        names += [GOAL_KEY] if config.has_goal else []
        spans = [(name, count, 0, True) for name, count in zip(names, self.cameras.tokens_of_images(), strict=True)]
        if config.text is not None:
            spans.append(("text", config.text.length, 0, True))
        layout = PrefixLayout.of(*spans)
        return layout.then(("proprioception", config.n_obs_steps, True)) if config.state_dim else layout

    def embed_context(self, observation: Batch, drop_goal_B: Tensor | None = None) -> Context:
        """Return the segments [images, text] and [proprioception] of an observation.

        Args:
            observation: Checked.
            drop_goal_B: bool [B], True where the goal image is to be hidden.
        """
        parts = read_observation(observation, self.config, drop_goal_B)
        tokens, valid = self.cameras(parts.images, parts.image_valid_BI)
        if self.text is not None and parts.text_BL is not None and parts.text_valid_BL is not None:
            tokens = torch.cat([tokens, self.text(parts.text_BL, parts.text_valid_BL)], dim=1)
            valid = torch.cat([valid, parts.text_valid_BL], dim=1)
        segments = [Segment(self.prefix_expert, tokens)]
        if self.state is not None:
            segments.append(Segment(self.action_expert, self.state(parts.state_BTS)))
            valid = torch.cat([valid, parts.state_valid_BT], dim=1)
        return Context(tuple(segments), valid)

    def embed_training_context(self, batch: Batch, generator: torch.Generator | None) -> Context:
        """Return the context of a training batch, with goal images dropped at random as the config says."""
        action_BHA = batch["action"]
        drop_B = draw_goal_dropout(self.config, len(action_BHA), generator, action_BHA.device)
        return self.embed_context(batch, drop_B)

    def draw(self, batch: Batch, generator: torch.Generator | None) -> FlowDraw | DiffusionDraw:
        """Draw what the action expert is asked about a training batch, by the config's objective."""
        dim_is_pad_BA = batch.get(ACTION_DIM_IS_PAD)
        question = (batch["action"], batch["action_is_pad"], self.config.flow_samples, generator, dim_is_pad_BA)
        return draw_flow(*question) if self.diffusion is None else self.diffusion.draw(*question)

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
        self, encoded: EncodedContext, generator: torch.Generator | None, dim_is_pad_BA: Tensor | None = None
    ) -> Tensor:
        """Go from noise to normalised actions, float [B, H, A], by the config's objective; one action pass per step.

        Args:
            encoded: The context.
            generator: Source of noise.
            dim_is_pad_BA: bool [B, A], True for numbers that a sample's robot does not have: 0 at every step, as in
                training.
        """
        valid_BC = encoded.valid_BC
        shape = (len(valid_BC), self.config.action_horizon, self.config.action_dim)
        noise_BHA = sample_noise(shape, generator, valid_BC.device)

        def there(values_BHA: Tensor) -> Tensor:
            return values_BHA if dim_is_pad_BA is None else values_BHA.masked_fill(dim_is_pad_BA[:, None], 0.0)

        noise_BHA = there(noise_BHA)

        def predict(x_BHA: Tensor, time_B: Tensor) -> Tensor:
            return there(self.velocity(x_BHA, time_B, encoded))

        if self.diffusion is not None:
            return self.diffusion.sample(predict, noise_BHA)
        return integrate_flow(predict, noise_BHA, self.config.flow_steps)

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
