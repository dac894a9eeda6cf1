"""GRP: every patch, goal and word is a token of one transformer; the class token's output is the action chunk.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, V bins, L tokens of the sequence, D their width.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from vla_ros.data_types import ObservationError
from vla_ros.networks.attention.block import Block, BlockOptions
from vla_ros.networks.heads.mlp import mlp
from vla_ros.networks.heads.noise_input import noise_dim, with_noise
from vla_ros.networks.temporal.frame_padding import without_padding
from vla_ros.objectives.noise import Noised
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState, Request
from vla_ros.policies.common.action_objective import repeated
from vla_ros.policies.common.multimodal import GOAL_KEY
from vla_ros.policies.common.observation_tokens import ObservationTokens, TokenAssembler, TokenPart
from vla_ros.policies.common.text_input import text_sequence
from vla_ros.policies.grp.config import GrpConfig
from vla_ros.policies.grp.sequence import GoalChoice, TokenLayout, block_mask, draw_goal_choices
from vla_ros.policies.grp.stem import KeypointStem, PatchStem

INITIAL_STD = 0.02
CHOICE = "goal_choice"


@dataclass(frozen=True)
class _Read:
    """What the transformer makes of an observation.

    Attributes:
        class_BD: The class token's output, float [B, D].
        tokens: The sequence it saw.
        visible_BL: bool [B, L], which tokens may be attended to.
        state: What is remembered of the episode, or None.
    """

    class_BD: Tensor
    tokens: ObservationTokens
    visible_BL: Tensor
    state: dict[str, Tensor] | None


class GrpPolicy(Policy):
    """Generalist robot policy: pixels, goal image and instruction as tokens, actions read off a class token."""

    name: ClassVar[str] = "grp"
    config_class: ClassVar[type[PolicyConfig]] = GrpConfig
    pads_actions: ClassVar[bool] = True
    config: GrpConfig

    def __init__(self, config: GrpConfig) -> None:
        super().__init__(config)
        width, sizes = config.width, _image_sizes(config)
        self.objective = config.action_objective
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
        self.blocks = nn.ModuleList(Block(_block_options(config)) for _ in range(config.depth))
        self.assemble = TokenAssembler(config, width)
        self.head = _head(config)
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
        return raw if self.objective.is_binned else self.objective.actions(raw)

    def _raw(self, observation: Batch, mask: GoalChoice | Tensor = None) -> Tensor:
        return self._chunks(self._read(observation, mask).class_BD)

    def _read(self, observation: Batch, mask: GoalChoice | Tensor = None, state: PolicyState | None = None) -> _Read:
        """Return the class token's output, and what it was read from."""
        embedded = self._embed(observation)
        present_BL = torch.cat([part.mask_BN for part in embedded], dim=1)
        chosen = self._chosen(mask, present_BL)
        tokens, after = self.assemble(embedded, observation, state)
        further_BN = torch.cat([part.mask_BN for part in tokens.parts], dim=1)[:, present_BL.shape[1] :]
        visible_BL = torch.cat([present_BL & chosen, further_BN], dim=1)
        visible_BL[:, 0] = True
        # what is hidden may hold anything, even NaN, which an attention weight of zero would not stop
        tokens_BLD = tokens.tokens_BLD.masked_fill(~visible_BL[..., None], 0.0)
        for block in self.blocks:
            tokens_BLD = block(tokens_BLD, allow=visible_BL)
        return _Read(tokens_BLD[:, 0], tokens, visible_BL, after)

    def _chunks(self, class_BD: Tensor, noised: Noised | None = None) -> Tensor:
        if noised is not None:
            class_BD = with_noise(repeated(class_BD, noised), noised.noised_BHA, noised.time_B)
        output: Tensor = self.head(class_BD)
        return output.view(-1, self.config.action_horizon, *self.objective.raw_shape)

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the objective's loss; in training, goals are dropped as drawn from `generator`."""
        mask = None
        if self.training and self.config.has_goal and self.config.text is not None and GOAL_KEY in batch:
            share, action_BHA = self.config.goal_dropout, batch["action"]
            mask = draw_goal_choices(share, self.layout, len(action_BHA), generator, action_BHA.device)
        read = self._read(batch, mask)
        return self.objective.train(lambda noised: self._chunks(read.class_BD, noised), batch, generator)

    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,
        generator: torch.Generator | None = None,
        mask: GoalChoice | Tensor = None,
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`; `mask` as in `forward`."""
        return self.predict({**observation, CHOICE: mask}, state, generator)

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict from the class token; the observation's ``goal_choice``, if given, is the `mask` of `forward`."""
        read = self._read(observation, observation.get(CHOICE), request.state)
        actions_BHA = self.objective.sample(lambda noised: self._chunks(read.class_BD, noised), request)
        named = {"tokens": read.tokens.tokens_BLD, "mask": read.visible_BL, "features": read.class_BD}
        return PolicyOutput(actions_BHA, read.state, named, read.tokens.segments)

    def _embed(self, observation: Batch) -> list[TokenPart]:
        """Return the sequence with its positions, and which tokens stand for something."""
        config = self.config
        first = observation[config.camera_keys[0]]
        batch_size, device = len(first), first.device
        is_pad_BT = observation.get("is_pad", torch.zeros(first.shape[:2], dtype=torch.bool, device=device)).bool()
        parts = [TokenPart("class", self.cls_token.expand(batch_size, 1, -1))]
        parts += [
            TokenPart(key, self.stem(without_padding(observation[key], is_pad_BT), key)) for key in config.camera_keys
        ]
        if self.state is not None:
            vectors = torch.cat([observation[key] for key in config.vector_keys], dim=-1)
            parts.append(TokenPart("state", self.state(without_padding(vectors, is_pad_BT).flatten(1))[:, None]))
        if self.goal_token is not None:
            tokens_BND = torch.cat(self._goal(observation, self.goal_token, first), dim=1)
            given_BN = torch.full(tokens_BND.shape[:2], GOAL_KEY in observation, device=device)
            parts.append(TokenPart(GOAL_KEY, tokens_BND, given_BN))
        if config.text is not None and self.text is not None:
            text, valid_BL = text_sequence(observation, config.text)
            parts.append(TokenPart("text", self.text(text), valid_BL))
        whole = ObservationTokens(tuple(parts))
        tokens_BLD = whole.tokens_BLD
        length, room = tokens_BLD.shape[1], self.layout.length
        if length > room:
            raise ObservationError(
                f"The sequence has {length} tokens, but there are positions for {room}: the text may have at most "
                f"{self.layout.n_text} tokens, got {self.layout.n_text + length - room}."
            )
        return list(whole.with_tokens(tokens_BLD + self.positions_LD[:length]).parts)

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
        foreign = set(self.assemble.modules())
        for module in self.modules():
            if module in foreign:
                continue
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


def _head(config: GrpConfig) -> nn.Module:
    output_dim = config.action_horizon * math.prod(config.action_objective.raw_shape)
    if not config.action_objective.is_denoising:
        return nn.Linear(config.width, output_dim)
    hidden_dim = config.mlp_ratio * config.width  # taking noise away is no linear map
    input_dim = config.width + noise_dim(config.action_horizon, config.action_dim)
    return mlp(input_dim, (hidden_dim, hidden_dim), output_dim)


def _block_options(config: GrpConfig) -> BlockOptions:
    """Return the guide's block: pre-norm, GELU, queries, keys and values without biases."""
    return BlockOptions(
        width=config.width,
        n_heads=config.n_heads,
        mlp_dim=config.mlp_ratio * config.width,
        dropout=config.dropout,
        mlp_dropout=0.0,
        norm_first=True,
        activation="gelu",
        qkv_bias=False,
        xavier=False,
    )


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
