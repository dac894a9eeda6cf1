"""The world model: RSSM, encoder, decoder, reward and continuation, and their loss. No planning, no files.

Axis legend: B batch, T frames, A action_dim, F width of the latent features, h, w pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from vla_ros.world_models.config import WorldModelConfig
from vla_ros.world_models.distributions import balanced_kl, symexp, symlog
from vla_ros.world_models.image_model import ImageDecoder, ImageEncoder
from vla_ros.world_models.rssm import Latent, Observed, Rssm, mlp


@dataclass(frozen=True)
class Sequences:
    """A batch of sequences.

    Attributes:
        inputs: Key → normalised frames: images float [B, T, 3, h, w], vectors float [B, T, S].
        action_BTA: What led to each frame; of an episode's first frame it does not matter.
        is_first_BT: bool [B, T], True where an episode begins.
        is_pad_BT: bool [B, T], True for frames that are none.
        reward_BT: Of arriving at each frame, float [B, T]; None: none are known.
        is_last_BT: bool [B, T], True where an episode ended; None: not known.
    """

    inputs: Mapping[str, Tensor]
    action_BTA: Tensor
    is_first_BT: Tensor
    is_pad_BT: Tensor
    reward_BT: Tensor | None = None
    is_last_BT: Tensor | None = None


class WorldModel(nn.Module):
    """Predicts what is seen, what it is worth and whether it goes on."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        sizes = {key: (spec.shape[0], spec.shape[1]) for key, spec in config.inputs.items() if spec.kind == "image"}
        self._order = {key: place for place, key in enumerate(sizes)}  # keys have dots, names of modules may not
        self.image_encoders = nn.ModuleList(
            ImageEncoder(height, width, config.image_depth) for height, width in sizes.values()
        )
        self._vectors = [key for key, spec in config.inputs.items() if spec.kind == "vector"]
        hidden = config.hidden_dim
        self.vector_encoder = mlp(config.state_dim, hidden, hidden) if config.state_dim else None
        embedding_dim = sum(encoder.output_dim for encoder in self._encoders) + (hidden if config.state_dim else 0)
        self.rssm = Rssm(
            action_dim=config.action_dim,
            embedding_dim=embedding_dim,
            hidden_dim=hidden,
            n_latents=config.n_latents,
            n_classes=config.n_classes,
            uniform_ratio=config.uniform_ratio,
        )
        features = self.rssm.feature_dim
        self.image_decoders = nn.ModuleList(
            ImageDecoder(features, height, width, config.image_depth) for height, width in sizes.values()
        )
        self.vector_decoder = mlp(features, hidden, config.state_dim) if config.state_dim else None
        self.reward = mlp(features, hidden, 1)
        self.continuation = mlp(features, hidden, 1)

    @property
    def _encoders(self) -> list[ImageEncoder]:
        return [part for part in self.image_encoders if isinstance(part, ImageEncoder)]

    def embed(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the embedding of observations, float [..., E], leading axes as the inputs have them."""
        parts = []
        for key, place in self._order.items():
            images = inputs[key]
            embedded: Tensor = self.image_encoders[place](images.flatten(0, -4))
            parts.append(embedded.view(*images.shape[:-3], -1))
        if self.vector_encoder is not None:
            parts.append(self.vector_encoder(symlog(torch.cat([inputs[key] for key in self._vectors], dim=-1))))
        return torch.cat(parts, dim=-1)

    def decode(self, features: Tensor) -> dict[str, Tensor]:
        """Return what would be seen, key → normalised frames, of features [..., F]."""
        result: dict[str, Tensor] = {}
        for key, place in self._order.items():
            images: Tensor = self.image_decoders[place](features.reshape(-1, features.shape[-1]))
            result[key] = images.reshape(*features.shape[:-1], *images.shape[1:])
        if self.vector_decoder is not None:
            widths = [self.config.inputs[key].shape[0] for key in self._vectors]
            parts = torch.split(symexp(self.vector_decoder(features)), widths, dim=-1)
            result.update(zip(self._vectors, parts, strict=True))
        return {key: result[key] for key in self.config.inputs}

    def rewards(self, features: Tensor) -> Tensor:
        """Return the reward of arriving at a state, float [...]."""
        return symexp(self.reward(features)[..., 0])

    def continuations(self, features: Tensor) -> Tensor:
        """Return the probability that an episode goes on after a state, float [...]."""
        probabilities: Tensor = self.continuation(features)[..., 0].sigmoid()
        return probabilities

    def observe(
        self, sequences: Sequences, generator: torch.Generator | None = None, *, sample: bool = True
    ) -> Observed:
        """Take up sequences of observations."""
        embedding_BTE = self.embed(sequences.inputs)
        return self.rssm.observe(
            sequences.action_BTA, embedding_BTE, sequences.is_first_BT, generator=generator, sample=sample
        )

    def loss(self, sequences: Sequences, generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean loss of a frame that is there, and its terms."""
        observed = self.observe(sequences, generator)
        features_BTF = observed.features_BTF
        terms_BT = self._reconstruction(sequences, features_BTF)
        config = self.config
        dynamics_BT, representation_BT = balanced_kl(observed.posterior_BTGV, observed.prior_BTGV, config.free_nats)
        terms_BT["dynamics"] = config.dynamics_weight * dynamics_BT
        terms_BT["representation"] = config.representation_weight * representation_BT
        if sequences.reward_BT is not None:
            predicted_BT = self.reward(features_BTF)[..., 0]
            terms_BT["reward"] = 0.5 * (predicted_BT - symlog(sequences.reward_BT)).square()
        if sequences.is_last_BT is not None:
            goes_on_BT = (~sequences.is_last_BT).float()
            logits_BT = self.continuation(features_BTF)[..., 0]
            terms_BT["continuation"] = functional.binary_cross_entropy_with_logits(
                logits_BT, goes_on_BT, reduction="none"
            )
        there_BT = ~sequences.is_pad_BT
        count = there_BT.sum().clamp(min=1)
        terms = {name: value.masked_fill(~there_BT, 0.0).sum() / count for name, value in terms_BT.items()}
        return torch.stack(list(terms.values())).sum(), {name: value.detach() for name, value in terms.items()}

    def _reconstruction(self, sequences: Sequences, features_BTF: Tensor) -> dict[str, Tensor]:
        """Return half the squared error of each kind of input, summed over its numbers, float [B, T]."""
        terms: dict[str, Tensor] = {}
        images = [self.image_decoders[place](features_BTF.flatten(0, 1)) for place in self._order.values()]
        for key, image_N3hw in zip(self._order, images, strict=True):
            error = (image_N3hw.reshape(sequences.inputs[key].shape) - sequences.inputs[key]).square()
            terms["images"] = terms.get("images", torch.zeros(())).to(error.device) + 0.5 * error.sum(dim=(-3, -2, -1))
        if self.vector_decoder is not None:
            target_BTS = symlog(torch.cat([sequences.inputs[key] for key in self._vectors], dim=-1))
            terms["vectors"] = 0.5 * (self.vector_decoder(features_BTF) - target_BTS).square().sum(dim=-1)
        return terms

    def returns(
        self, latent: Latent, candidates_BNHA: Tensor, discount: float, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the imagined return of candidate actions, float [B, N]; all are imagined in one batch.

        A reward counts by the discount and by the probability that the episode went on until then.
        """
        batch, count = candidates_BNHA.shape[:2]
        states = self.rssm.imagine(latent.repeated(count), candidates_BNHA.flatten(0, 1), generator=generator)
        features_HNF = torch.stack([state.features for state in states])
        rewards_HN, goes_on_HN = self.rewards(features_HNF), self.continuations(features_HNF)
        alive_HN = torch.cat([torch.ones_like(goes_on_HN[:1]), goes_on_HN[:-1]]).cumprod(dim=0)
        discounts_H = discount ** torch.arange(len(states), device=rewards_HN.device)
        return (rewards_HN * alive_HN * discounts_H[:, None]).sum(dim=0).view(batch, count)
