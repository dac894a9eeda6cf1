"""RT-1: each frame becomes a few tokens under the instruction, and a causal transformer reads classes of actions off.

Axis legend: B batch, T n_obs_steps, K tokens per frame, D token_dim, H action_horizon, A action_dim, V bins,
E numbers of the conditioning vector.
"""

import math
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.transformer import CausalTransformer
from vla_ros.networks.heads.mlp import mlp
from vla_ros.networks.heads.noise_input import noise_dim, with_noise
from vla_ros.networks.temporal.frame_padding import frame_sources, take_frames
from vla_ros.networks.vision.film_tokens import FilmTokens
from vla_ros.networks.vision.film_trunks import FilmBlocks
from vla_ros.objectives import ActionBins, cross_entropy, l1
from vla_ros.objectives.noise import Noised
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState, Request
from vla_ros.policies.common.action_objective import repeated
from vla_ros.policies.common.observation_tokens import (
    CameraEncoders,
    ObservationTokens,
    TokenAssembler,
    TokenPart,
    joined_state,
)
from vla_ros.policies.common.text_input import sentence_vectors
from vla_ros.policies.rt1.config import Rt1Config
from vla_ros.policies.rt1.frame_cache import TOKENS, Frames, cache_state, known_frames


class Rt1Policy(Policy):
    """Robotics transformer 1: FiLM-conditioned images, learned tokens, a causal transformer, 256 bins per number."""

    name: ClassVar[str] = "rt1"
    config_class: ClassVar[type[PolicyConfig]] = Rt1Config
    config: Rt1Config

    def __init__(self, config: Rt1Config) -> None:
        super().__init__(config)
        width = config.token_dim
        self.objective = config.action_objective
        condition_dim = width if config.text is not None else 0
        self.language = nn.Linear(config.text.embedding_width, width) if config.text is not None else None
        self.images = CameraEncoders(
            config,
            config.share_encoder,
            lambda size: FilmTokens(
                config.trunk,
                size,
                condition_dim,
                width,
                grid=config.grid,
                n_tokens=config.tokens_per_image,
                hidden_dim=config.learner_dim,
                weights=config.learner_weights,
            ),
        )
        self.state = nn.Linear(config.state_dim, width) if config.state_dim else None
        self.tokens_per_frame = sum(self._encoder(key).n_tokens for key in config.image_keys)
        self.tokens_per_frame += 1 if self.state is not None else 0
        self.assemble = TokenAssembler(config, width)
        self.tokens_per_frame += self.assemble.tokens_per_frame
        self.transformer = CausalTransformer(
            config.n_obs_steps * self.tokens_per_frame,
            width,
            depth=config.depth,
            n_heads=config.n_heads,
            mlp_dim=config.mlp_dim,
            dropout=config.dropout,
        )
        self.head = _head(config)
        self.bins = _bins(config) if config.objective == "cross_entropy" else None

    def condition(self, observation: Batch) -> Tensor | None:
        """Return what conditions the images, float [B, E]; None for a policy without text."""
        if self.language is None or self.config.text is None:
            return None
        condition_BE: Tensor = self.language(sentence_vectors(observation, self.config.text))
        return condition_BE

    def frame_tokens(self, frames: Frames, condition_BE: Tensor | None) -> Tensor:
        """Encode frames, each by itself, float [B, T, K, D]: the trunk's pass, and nearly all of the work.

        Args:
            frames: Camera → float [B, T, 3, h, w], for any T.
            condition_BE: As `condition` returns it.
        """
        steps = next(iter(frames.values())).shape[1]
        condition_NE = None if condition_BE is None else condition_BE.repeat_interleave(steps, dim=0)
        parts = [
            self._encoder(key)(frames[key].flatten(0, 1), condition_NE).unflatten(0, (-1, steps))
            for key in self.config.image_keys
        ]
        return torch.cat(parts, dim=2)

    def sequence(
        self, tokens_BTKD: Tensor, observation: Batch, sources_BT: Tensor, state: PolicyState | None = None
    ) -> tuple[ObservationTokens, dict[str, Tensor] | None]:
        """Return the transformer's tokens, frame by frame, of encoded frames, and what is remembered of the episode."""
        frames, valid = [tokens_BTKD], [torch.ones_like(tokens_BTKD[..., 0], dtype=torch.bool)]
        if self.state is not None:
            vectors = torch.cat([observation[key] for key in self.config.vector_keys], dim=-1)
            frames.append(self.state(take_frames(vectors, sources_BT))[:, :, None])
            valid.append(torch.ones_like(frames[-1][..., 0], dtype=torch.bool))
        sensors = self.assemble.frame_parts(observation)
        frames += [part.tokens_BND for part in sensors]
        valid += [part.mask_BN for part in sensors]
        # one part per frame: the transformer is causal over them
        whole_BTND = torch.cat(frames, dim=2)
        valid_BTN = torch.cat(valid, dim=2) if sensors else None
        parts = tuple(
            TokenPart(
                f"frame {at + 1 - whole_BTND.shape[1]}",
                whole_BTND[:, at],
                None if valid_BTN is None else valid_BTN[:, at],
            )
            for at in range(whole_BTND.shape[1])
        )
        return self.assemble.remember(ObservationTokens(parts), state)

    def logits(self, tokens_BTKD: Tensor, observation: Batch, sources_BT: Tensor) -> Tensor:
        """Return what the head makes of encoded frames: logits of classes, [B, H, A, V], or numbers [B, H, A]."""
        return self._chunks(self._read(self.sequence(tokens_BTKD, observation, sources_BT)[0]))

    def forward(self, observation: Batch) -> Tensor:
        """Return logits, float [B, H, A, V], or numbers [B, H, A], with every frame encoded anew."""
        return self._chunks(self._read_anew(observation))

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the objective's loss; of classes, ``terms`` holds the mean absolute error of the likeliest ones."""
        if self.bins is None:
            output_BD = self._read_anew(batch)
            return self.objective.train(lambda noised: self._chunks(output_BD, noised), batch, generator)
        logits_BHAV, action_BHA, is_pad_BH = self(batch), batch["action"], batch["action_is_pad"]
        # padding may hold NaN, which has no class
        target_BHA = action_BHA.masked_fill(is_pad_BH[..., None], 0.0)
        decoded_BHA = self.bins.decode(logits_BHAV.detach().argmax(dim=-1))
        weight_BH1 = self.objective.weight(target_BHA)
        loss = cross_entropy(logits_BHAV, self.bins.encode(target_BHA), is_pad_BH, weight_BH1)
        return LossOutput(loss, {"l1": l1(decoded_BHA, action_BHA, is_pad_BH)})

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict; the state spares encoding the frames seen before."""
        state = request.state
        sources_BT, condition_BE = self._sources(observation), self.condition(observation)
        frames = {key: observation[key] for key in self.config.image_keys}
        if bool((sources_BT != torch.arange(sources_BT.shape[1], device=sources_BT.device)).any()):
            frames = {key: take_frames(value, sources_BT) for key, value in frames.items()}
        tokens_BTKD = self._encode_unknown(frames, condition_BE, state, sources_BT)
        tokens, remembered = self.sequence(tokens_BTKD, observation, sources_BT, state)
        output_BD = self._read(tokens)
        if self.bins is not None:
            actions_BHA = self.bins.decode(self._chunks(output_BD).argmax(dim=-1))
        else:
            actions_BHA = self.objective.sample(lambda noised: self._chunks(output_BD, noised), request)
        after = joined_state(cache_state(frames, tokens_BTKD, condition_BE), remembered)
        length = tokens.tokens_BLD.shape[1]
        mask = torch.ones(1, length, length, dtype=torch.bool, device=output_BD.device).tril()
        named = {"tokens": tokens.tokens_BLD, "mask": mask, "features": output_BD}
        return PolicyOutput(actions_BHA, after, named, tokens.segments)

    def _read(self, tokens: ObservationTokens) -> Tensor:
        output_BD: Tensor = self.transformer(tokens.tokens_BLD, tokens.valid_BL)[:, -1]
        return output_BD

    def _read_anew(self, observation: Batch) -> Tensor:
        sources_BT = self._sources(observation)
        frames = {key: take_frames(observation[key], sources_BT) for key in self.config.image_keys}
        tokens_BTKD = self.frame_tokens(frames, self.condition(observation))
        return self._read(self.sequence(tokens_BTKD, observation, sources_BT)[0])

    def _chunks(self, output_BD: Tensor, noised: Noised | None = None) -> Tensor:
        if noised is not None:
            output_BD = with_noise(repeated(output_BD, noised), noised.noised_BHA, noised.time_B)
        raw = self.head(output_BD).unflatten(1, (self.config.action_horizon, *self.objective.raw_shape))
        return raw if self.bins is None else self.bins.without_unused(raw)

    def load_pretrained(self) -> None:
        """Start from the trunk's weights that the config names.

        Raises:
            ConfigError: They cannot be read, or are not the trunk's.
        """
        if self.config.trunk_weights is None:
            return
        for encoder in self.images.each():
            trunk = cast(FilmTokens, encoder).trunk
            if not isinstance(trunk, FilmBlocks):
                raise ConfigError(
                    f"trunk_weights: trunk '{self.config.trunk}' is no published network, and takes none."
                )
            trunk.backbone.load_weights(self.config.trunk_weights)

    def _encode_unknown(
        self, frames: Frames, condition_BE: Tensor | None, state: PolicyState | None, sources_BT: Tensor
    ) -> Tensor:
        """Return tokens of all frames, [B, T, K, D]; known and repeated ones are not encoded again."""
        steps = sources_BT.shape[1]
        known = known_frames(frames, condition_BE, state)
        repeated = [False, *(sources_BT[:, 1:] == sources_BT[:, :-1]).all(dim=0).tolist()]
        new = [at for at in range(steps) if known[at] is None and not repeated[at]]
        fresh = self.frame_tokens({key: value[:, new] for key, value in frames.items()}, condition_BE) if new else None
        columns: list[Tensor] = []
        for at in range(steps):
            index = known[at]
            if fresh is not None and at in new:
                columns.append(fresh[:, new.index(at)])
            elif repeated[at]:
                columns.append(columns[-1])
            elif state is not None and index is not None:
                columns.append(state[TOKENS][:, index])
        return torch.stack(columns, dim=1)

    def _sources(self, observation: Batch) -> Tensor:
        first = observation[self.config.image_keys[0]]
        absent = torch.zeros(first.shape[:2], dtype=torch.bool, device=first.device)
        return frame_sources(observation.get("is_pad", absent).bool())

    def _encoder(self, key: str) -> FilmTokens:
        return cast("FilmTokens", self.images.of(key))


def _head(config: Rt1Config) -> nn.Module:
    width, output_dim = config.token_dim, config.action_horizon * math.prod(config.action_objective.raw_shape)
    if not config.action_objective.is_denoising:
        return nn.Linear(width, output_dim)
    input_dim = width + noise_dim(config.action_horizon, config.action_dim)
    return mlp(input_dim, (config.mlp_dim, config.mlp_dim), output_dim)  # taking noise away is no linear map


def _bins(config: Rt1Config) -> ActionBins:
    names = config.action.names
    low, high = zip(*(config.ranges.get(name, (-1.0, 1.0)) for name in names), strict=True)
    categories = {names.index(name): values for name, values in config.categories.items()}
    return ActionBins(low, high, config.bins, categories)
