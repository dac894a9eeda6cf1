"""The recurrent state-space model: what is remembered, what is guessed of the present, and what is seen of it.

``h = f(h, z, a)`` is deterministic; ``z`` is drawn from the prior p(z | h) in imagination and from the posterior
q(z | h, e) where there is an observation e. No pixels, no rewards.

Axis legend: B batch, T frames, D width of h, G latents, V classes, A action_dim, E width of an embedding.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vla_ros.world_models.distributions import mode_one_hot, sample_one_hot, unimix


@dataclass(frozen=True)
class Latent:
    """The model's state of a batch.

    Attributes:
        h_BD: What is remembered, float [B, D].
        z_BZ: What is guessed or seen, one-hot for each latent, float [B, G·V].
    """

    h_BD: Tensor
    z_BZ: Tensor

    @property
    def features(self) -> Tensor:
        """Both together, float [B, D + G·V]: what decoder, reward and continuation are made of."""
        return torch.cat([self.h_BD, self.z_BZ], dim=-1)

    def repeated(self, count: int) -> "Latent":
        """Return it with each sample `count` times in a row."""
        return Latent(self.h_BD.repeat_interleave(count, dim=0), self.z_BZ.repeat_interleave(count, dim=0))

    def where(self, chosen_B: Tensor, other: "Latent") -> "Latent":
        """Return this where `chosen_B` is True and another one elsewhere."""
        mask_B1 = chosen_B[:, None]
        return Latent(torch.where(mask_B1, self.h_BD, other.h_BD), torch.where(mask_B1, self.z_BZ, other.z_BZ))


@dataclass(frozen=True)
class Observed:
    """A sequence of observations taken up.

    Attributes:
        latents: After each frame, T of them.
        posterior_BTGV: Log probabilities, float [B, T, G, V].
        prior_BTGV: The same before the frame was seen.
    """

    latents: tuple[Latent, ...]
    posterior_BTGV: Tensor
    prior_BTGV: Tensor

    @property
    def features_BTF(self) -> Tensor:
        """Of each frame, float [B, T, D + G·V]."""
        return torch.stack([latent.features for latent in self.latents], dim=1)


def mlp(input_dim: int, hidden_dim: int, output_dim: int) -> nn.Sequential:
    """Return one hidden layer with RMSNorm; the norm has a scale and no offset."""
    layers = (nn.Linear(input_dim, hidden_dim, bias=False), nn.RMSNorm(hidden_dim), nn.SiLU())
    return nn.Sequential(*layers, nn.Linear(hidden_dim, output_dim))


class Rssm(nn.Module):
    """The dynamics.

    Args:
        action_dim: A.
        embedding_dim: E.
        hidden_dim: D, and the width of its layers.
        n_latents: G.
        n_classes: V.
        uniform_ratio: Of `unimix`, of both distributions.
    """

    def __init__(
        self,
        *,
        action_dim: int,
        embedding_dim: int,
        hidden_dim: int = 256,
        n_latents: int = 16,
        n_classes: int = 16,
        uniform_ratio: float = 0.01,
    ) -> None:
        super().__init__()
        self.hidden_dim, self.n_latents, self.n_classes = hidden_dim, n_latents, n_classes
        self.uniform_ratio = uniform_ratio
        z_dim = n_latents * n_classes
        self.feature_dim = hidden_dim + z_dim
        self.input = nn.Sequential(
            nn.Linear(z_dim + action_dim, hidden_dim, bias=False), nn.RMSNorm(hidden_dim), nn.SiLU()
        )
        self.cell = nn.GRUCell(hidden_dim, hidden_dim)
        self.prior = mlp(hidden_dim, hidden_dim, z_dim)
        self.posterior = mlp(hidden_dim + embedding_dim, hidden_dim, z_dim)

    def initial(self, batch_size: int, device: torch.device | str = "cpu") -> Latent:
        """Return the state before anything was seen: zeros."""
        z_dim = self.n_latents * self.n_classes
        return Latent(
            torch.zeros(batch_size, self.hidden_dim, device=device), torch.zeros(batch_size, z_dim, device=device)
        )

    def advance(self, latent: Latent, action_BA: Tensor) -> Tensor:
        """Return h one tick later, float [B, D], when `action_BA` was done meanwhile."""
        h_BD: Tensor = self.cell(self.input(torch.cat([latent.z_BZ, action_BA], dim=-1)), latent.h_BD)
        return h_BD

    def prior_of(self, h_BD: Tensor) -> Tensor:
        """Return the log probabilities of what is expected, float [B, G, V]."""
        return self._distribution(self.prior(h_BD))

    def posterior_of(self, h_BD: Tensor, embedding_BE: Tensor) -> Tensor:
        """Return the log probabilities of what is seen, float [B, G, V]."""
        return self._distribution(self.posterior(torch.cat([h_BD, embedding_BE], dim=-1)))

    def observe_step(
        self,
        latent: Latent,
        action_BA: Tensor,
        embedding_BE: Tensor,
        is_first_B: Tensor,
        *,
        generator: torch.Generator | None = None,
        sample: bool = True,
    ) -> tuple[Latent, Tensor, Tensor]:
        """Take up one observation.

        Args:
            latent: State at the frame before.
            action_BA: What was done since, float [B, A].
            embedding_BE: The observation, float [B, E].
            is_first_B: bool [B], True where an episode begins: state and action are forgotten.
            generator: Source of chance.
            sample: Draw the latents; otherwise take the likeliest.

        Returns:
            The state, and the log probabilities of posterior and prior, float [B, G, V].
        """
        fresh = self.initial(len(action_BA), action_BA.device)
        latent = fresh.where(is_first_B, latent)
        h_BD = self.advance(latent, action_BA.masked_fill(is_first_B[:, None], 0.0))
        posterior_BGV = self.posterior_of(h_BD, embedding_BE)
        z_BGV = sample_one_hot(posterior_BGV, generator) if sample else mode_one_hot(posterior_BGV)
        return Latent(h_BD, z_BGV.flatten(1)), posterior_BGV, self.prior_of(h_BD)

    def observe(
        self,
        action_BTA: Tensor,
        embedding_BTE: Tensor,
        is_first_BT: Tensor,
        *,
        generator: torch.Generator | None = None,
        sample: bool = True,
    ) -> Observed:
        """Take up a sequence; arguments as in `observe_step`, ``action_BTA[:, t]`` being what led to frame t."""
        latent = self.initial(len(action_BTA), action_BTA.device)
        latents, posteriors, priors = [], [], []
        for step in range(action_BTA.shape[1]):
            latent, posterior_BGV, prior_BGV = self.observe_step(
                latent,
                action_BTA[:, step],
                embedding_BTE[:, step],
                is_first_BT[:, step],
                generator=generator,
                sample=sample,
            )
            latents.append(latent)
            posteriors.append(posterior_BGV)
            priors.append(prior_BGV)
        return Observed(tuple(latents), torch.stack(posteriors, dim=1), torch.stack(priors, dim=1))

    def imagine(
        self, latent: Latent, action_BHA: Tensor, *, generator: torch.Generator | None = None, sample: bool = True
    ) -> list[Latent]:
        """Return the states that follow when nothing more is seen.

        Args:
            latent: Where imagination begins.
            action_BHA: What is done, float [B, H, A].
            generator: Source of chance.
            sample: Draw the latents; otherwise take the likeliest.
        """
        states = []
        for action_BA in action_BHA.unbind(1):
            h_BD = self.advance(latent, action_BA)
            prior_BGV = self.prior_of(h_BD)
            z_BGV = sample_one_hot(prior_BGV, generator) if sample else mode_one_hot(prior_BGV)
            latent = Latent(h_BD, z_BGV.flatten(1))
            states.append(latent)
        return states

    def _distribution(self, numbers_BZ: Tensor) -> Tensor:
        return unimix(numbers_BZ.view(*numbers_BZ.shape[:-1], self.n_latents, self.n_classes), self.uniform_ratio)
