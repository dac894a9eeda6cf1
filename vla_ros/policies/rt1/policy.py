"""RT-1: each frame becomes a few tokens under the instruction, and a causal transformer reads classes of actions off.

Axis legend: B batch, T n_obs_steps, K tokens per frame, D token_dim, H action_horizon, A action_dim, V bins,
E numbers of the conditioning vector.
"""

from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks import load_backbone_weights
from vla_ros.networks.attention.causal_transformer import CausalTransformer
from vla_ros.networks.temporal.frame_padding import frame_sources, take_frames
from vla_ros.networks.vision.film_tokens import FilmTokens
from vla_ros.networks.vision.film_trunks import FilmBlocks
from vla_ros.objectives import ActionBins, cross_entropy, l1
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.policies.common.camera_encoders import CameraEncoders
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
        self.transformer = CausalTransformer(
            config.n_obs_steps * self.tokens_per_frame,
            width,
            depth=config.depth,
            n_heads=config.n_heads,
            mlp_dim=config.mlp_dim,
            dropout=config.dropout,
        )
        self.head = nn.Linear(width, config.action_horizon * config.action_dim * config.bins)
        self.bins = _bins(config)

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

    def logits(self, tokens_BTKD: Tensor, observation: Batch, sources_BT: Tensor) -> Tensor:
        """Return logits of action classes, float [B, H, A, V], of encoded frames."""
        if self.state is not None:
            keys = [key for key, spec in self.config.inputs.items() if spec.kind == "vector"]
            vectors_BTS = take_frames(torch.cat([observation[key] for key in keys], dim=-1), sources_BT)
            tokens_BTKD = torch.cat([tokens_BTKD, self.state(vectors_BTS)[:, :, None]], dim=2)
        output_BD = self.transformer(tokens_BTKD.flatten(1, 2))[:, -1]
        shape = (self.config.action_horizon, self.config.action_dim, self.config.bins)
        return self.bins.without_unused(self.head(output_BD).unflatten(1, shape))

    def forward(self, observation: Batch) -> Tensor:
        """Return logits, float [B, H, A, V], with every frame encoded anew."""
        sources_BT = self._sources(observation)
        frames = {key: take_frames(observation[key], sources_BT) for key in self.config.image_keys}
        return self.logits(self.frame_tokens(frames, self.condition(observation)), observation, sources_BT)

    def compute_loss(
        self,
        batch: Batch,
        generator: torch.Generator | None = None,  # noqa: ARG002  # nothing is sampled
    ) -> LossOutput:
        """Return the cross-entropy of the classes; ``terms`` holds the mean absolute error of the likeliest ones."""
        self.check_observation(batch)
        logits_BHAV, action_BHA, is_pad_BH = self(batch), batch["action"], batch["action_is_pad"]
        # padding may hold NaN, which has no class
        bins_BHA = self.bins.encode(action_BHA.masked_fill(is_pad_BH[..., None], 0.0))
        decoded_BHA = self.bins.decode(logits_BHAV.detach().argmax(dim=-1))
        loss = cross_entropy(logits_BHAV, bins_BHA, is_pad_BH)
        return LossOutput(loss, {"l1": l1(decoded_BHA, action_BHA, is_pad_BH)})

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,
        generator: torch.Generator | None = None,  # noqa: ARG002  # the likeliest classes are taken
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`; the state spares encoding the frames seen before."""
        self.check_observation(observation)
        sources_BT, condition_BE = self._sources(observation), self.condition(observation)
        frames = {key: observation[key] for key in self.config.image_keys}
        if bool((sources_BT != torch.arange(sources_BT.shape[1], device=sources_BT.device)).any()):
            frames = {key: take_frames(value, sources_BT) for key, value in frames.items()}
        tokens_BTKD = self._encode_unknown(frames, condition_BE, state, sources_BT)
        bins_BHA = self.logits(tokens_BTKD, observation, sources_BT).argmax(dim=-1)
        return PolicyOutput(self.bins.decode(bins_BHA), cache_state(frames, tokens_BTKD, condition_BE))

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
            load_backbone_weights(trunk.backbone, self.config.trunk_weights)

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


def _bins(config: Rt1Config) -> ActionBins:
    names = config.action.names
    low, high = zip(*(config.ranges.get(name, (-1.0, 1.0)) for name in names), strict=True)
    categories = {names.index(name): values for name, values in config.categories.items()}
    return ActionBins(low, high, config.bins, categories)
