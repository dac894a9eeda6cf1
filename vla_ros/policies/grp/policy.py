"""GRP: every patch, goal and word is a token of one transformer; the class token's output is the action chunk.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, V bins, L tokens of the sequence, D their width.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

from vla_ros.data_types import ObservationError
from vla_ros.networks.attention.key_masked_block import KeyMaskedBlock
from vla_ros.networks.temporal.frame_padding import without_padding
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.policies.common.multimodal import GOAL_KEY
from vla_ros.policies.common.text_input import text_sequence
from vla_ros.policies.grp.config import GrpConfig
from vla_ros.policies.grp.sequence import GoalChoice, TokenLayout, block_mask, draw_goal_choices
from vla_ros.policies.grp.stem import KeypointStem, PatchStem

INITIAL_STD = 0.02


class GrpPolicy(Policy):
    """Generalist robot policy: pixels, goal image and instruction as tokens, actions read off a class token."""

    name: ClassVar[str] = "grp"
    config_class: ClassVar[type[PolicyConfig]] = GrpConfig
    pads_actions: ClassVar[bool] = True
    config: GrpConfig

    def __init__(self, config: GrpConfig) -> None:
        super().__init__(config)
        width, sizes = config.width, _image_sizes(config)
        self.stem = _stem(config)
        self.text = _text_embedding(config)
        self.state = nn.Linear(config.n_obs_steps * config.state_dim, width) if config.state_dim else None
        self.cls_token = nn.Parameter(torch.empty(1, width))
        self.goal_token = nn.Parameter(torch.empty(1, width)) if config.has_goal else None
        per_frame = {key: self.stem.tokens_per_frame(size, self._camera_of(key)) for key, size in sizes.items()}
        self.layout = TokenLayout(
            n_camera=config.n_obs_steps * sum(per_frame[key] for key in config.camera_keys),
            n_state=1 if self.state is not None else 0,
            n_goal=1 + per_frame[GOAL_KEY] if config.has_goal else 0,
            n_text=config.text.length if config.text is not None else 0,
        )
        self.positions_LD = nn.Parameter(torch.empty(self.layout.length, width))
        self.blocks = nn.ModuleList(
            KeyMaskedBlock(width, config.n_heads, config.mlp_ratio, config.dropout) for _ in range(config.depth)
        )
        self.head = nn.Linear(width, config.action_horizon * math.prod(config.action_objective.raw_shape))
        self._initialise()

    def forward(self, observation: Batch, mask: GoalChoice | Tensor = None) -> Tensor:
        """Return normalised actions, float [B, H, A], or, of a policy with bins, their logits, [B, H, A, V].

        Args:
            observation: Normalised. Without ``goal.image`` the goal image is hidden.
            mask: Which goal counts, as `GoalChoice`; or bool [B, L], False for the tokens that a sample hides. The
                class token is always seen, text padding never.

        Raises:
            ObservationError: The text is longer than the position table has room for, or the mask has another shape.
        """
        raw = self._raw(observation, mask)
        return raw if self.config.action_objective.is_binned else self.config.action_objective.actions(raw)

    def _raw(self, observation: Batch, mask: GoalChoice | Tensor = None) -> Tensor:
        tokens_BLD, present_BL = self._embed(observation)
        visible_BL = present_BL & self._chosen(mask, present_BL)
        visible_BL[:, 0] = True
        # what is hidden may hold anything, even NaN, which an attention weight of zero would not stop
        tokens_BLD = tokens_BLD.masked_fill(~visible_BL[..., None], 0.0)
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, visible_BL)
        output: Tensor = self.head(tokens_BLD[:, 0])
        return output.view(-1, self.config.action_horizon, *self.config.action_objective.raw_shape)

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Return the objective's loss; in training, goals are dropped as drawn from `generator`."""
        self.check_observation(batch)
        mask = None
        if self.training and self.config.has_goal and self.config.text is not None and GOAL_KEY in batch:
            share, action_BHA = self.config.goal_dropout, batch["action"]
            mask = draw_goal_choices(share, self.layout, len(action_BHA), generator, action_BHA.device)
        return self.config.action_objective.loss_of(self._raw(batch, mask), batch)

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,  # noqa: ARG002  # nothing is remembered
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
        mask: GoalChoice | Tensor = None,
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`; `mask` as in `forward`."""
        self.check_observation(observation)
        return PolicyOutput(self.config.action_objective.actions(self._raw(observation, mask)))

    def _embed(self, observation: Batch) -> tuple[Tensor, Tensor]:
        """Return the sequence with its positions, [B, L, D], and which tokens stand for something, bool [B, L]."""
        config = self.config
        first = observation[config.camera_keys[0]]
        batch_size, device = len(first), first.device
        is_pad_BT = observation.get("is_pad", torch.zeros(first.shape[:2], dtype=torch.bool, device=device)).bool()
        parts = [self.cls_token.expand(batch_size, 1, -1)]
        parts += [self.stem(without_padding(observation[key], is_pad_BT), key) for key in config.camera_keys]
        if self.state is not None:
            vectors = torch.cat([observation[key] for key in config.vector_keys], dim=-1)
            parts.append(self.state(without_padding(vectors, is_pad_BT).flatten(1))[:, None])
        if self.goal_token is not None:
            parts += self._goal(observation, self.goal_token, first)
        present_BL = torch.ones(batch_size, self.layout.text.start, dtype=torch.bool, device=device)
        if GOAL_KEY not in observation:
            present_BL[:, self.layout.goal] = False
        if config.text is not None and self.text is not None:
            text, valid_BL = text_sequence(observation, config.text)
            parts.append(self.text(text))
            present_BL = torch.cat([present_BL, valid_BL], dim=1)
        tokens_BLD = torch.cat(parts, dim=1)
        length, room = tokens_BLD.shape[1], self.layout.length
        if length > room:
            raise ObservationError(
                f"The sequence has {length} tokens, but there are positions for {room}: the text may have at most "
                f"{self.layout.n_text} tokens, got {self.layout.n_text + length - room}."
            )
        return tokens_BLD + self.positions_LD[:length], present_BL

    def _goal(self, observation: Batch, marker_1D: Tensor, like: Tensor) -> list[Tensor]:
        height, width, _ = self.config.inputs[GOAL_KEY].shape
        goal_B13hw = (
            observation[GOAL_KEY][:, -1:] if GOAL_KEY in observation else like.new_zeros(1, 1, 3, height, width)
        )
        goal_BPD = self.stem(goal_B13hw, self._camera_of(GOAL_KEY)).expand(len(like), -1, -1)
        return [marker_1D.expand(len(like), 1, -1), goal_BPD]

    def _chosen(self, mask: GoalChoice | Tensor, present_BL: Tensor) -> Tensor:
        if not isinstance(mask, Tensor):
            return block_mask(mask, self.layout, present_BL.device)[: present_BL.shape[1]]
        if mask.shape != present_BL.shape:
            expected = ", ".join(map(str, present_BL.shape))
            raise ObservationError(f"mask must be [B, L] = [{expected}], got {list(mask.shape)}.")
        return mask.bool()

    def _camera_of(self, key: str) -> str:
        return self.config.camera_of_goal if key == GOAL_KEY else key

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INITIAL_STD)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        for parameter in (
            self.cls_token,
            self.positions_LD,
            *([self.goal_token] if self.goal_token is not None else []),
        ):
            nn.init.normal_(parameter, std=INITIAL_STD)


def _image_sizes(config: GrpConfig) -> dict[str, tuple[int, int]]:
    return {key: (config.inputs[key].shape[0], config.inputs[key].shape[1]) for key in config.image_keys}


def _stem(config: GrpConfig) -> PatchStem | KeypointStem:
    sizes = _image_sizes(config)
    if config.stem == "patches":
        return PatchStem(sizes, config.patch_size, config.width)
    cameras = {key: sizes[key] for key in config.camera_keys}
    return KeypointStem(cameras, config.stem_tokens, config.width)


def _text_embedding(config: GrpConfig) -> nn.Module | None:
    if config.text is None:
        return None
    if config.text.is_tokens:
        return nn.Embedding(config.text.n_tokens, config.width)
    needs_projection = config.text.embedding_width != config.width
    return nn.Linear(config.text.embedding_width, config.width) if needs_projection else nn.Identity()
