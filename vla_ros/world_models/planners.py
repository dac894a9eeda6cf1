"""Looks for actions whose imagined outcome is good. Knows returns, no model.

Axis legend: B batch, N candidates, H horizon, A action_dim.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Evaluate = Callable[[Tensor], Tensor]
"""Candidates, float [B, N, H, A] in [−1, 1] → the return of each, float [B, N]."""


@dataclass(frozen=True)
class RandomShooting:
    """Takes the best of uniformly drawn sequences.

    Attributes:
        samples: N.
    """

    samples: int = 300

    def plan(self, evaluate: Evaluate, guess_BHA: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the best sequence, float [B, H, A].

        Args:
            evaluate: Called once, with all candidates.
            guess_BHA: What was planned before; only its shape counts.
            generator: Source of chance.
        """
        batch, horizon, width = guess_BHA.shape
        shape = (batch, self.samples, horizon, width)
        candidates_BNHA = _draw(torch.rand, shape, guess_BHA, generator) * 2.0 - 1.0
        best_B = evaluate(candidates_BNHA).argmax(dim=1)
        return candidates_BNHA[torch.arange(batch, device=best_B.device), best_B]


@dataclass(frozen=True)
class CrossEntropyMethod:
    """Draws sequences from a normal distribution and fits it to the best of them, again and again.

    Attributes:
        samples: N.
        elites: How many the distribution is fitted to.
        iterations: How often.
        std: Deviation to begin with.
        min_std: Deviation that it never falls below.
    """

    samples: int = 300
    elites: int = 30
    iterations: int = 5
    std: float = 0.5
    min_std: float = 0.05

    def plan(self, evaluate: Evaluate, guess_BHA: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the last distribution's mean, float [B, H, A].

        Args:
            evaluate: Called `iterations` times, each time with all candidates.
            guess_BHA: Where to begin: what was planned a tick ago, shifted by a step, or zeros.
            generator: Source of chance.
        """
        batch, horizon, width = guess_BHA.shape
        mean_BHA, std_BHA = guess_BHA, torch.full_like(guess_BHA, self.std)
        rows_B1 = torch.arange(batch, device=guess_BHA.device)[:, None]
        for _ in range(self.iterations):
            noise_BNHA = _draw(torch.randn, (batch, self.samples, horizon, width), guess_BHA, generator)
            candidates_BNHA = (mean_BHA[:, None] + std_BHA[:, None] * noise_BNHA).clamp(-1.0, 1.0)
            best_BE = evaluate(candidates_BNHA).topk(self.elites, dim=1).indices
            elites_BEHA = candidates_BNHA[rows_B1, best_BE]
            mean_BHA = elites_BEHA.mean(dim=1)
            std_BHA = elites_BEHA.std(dim=1, unbiased=False).clamp(min=self.min_std)
        return mean_BHA


def shifted(plan_BHA: Tensor, steps: int = 1) -> Tensor:
    """Return a plan as it looks `steps` ticks later: its last action is repeated at the end."""
    horizon = plan_BHA.shape[1]
    places = torch.arange(horizon, device=plan_BHA.device).add(steps).clamp(max=horizon - 1)
    return plan_BHA[:, places]


def _draw(
    kind: Callable[..., Tensor], shape: tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    source = like.device if generator is None else generator.device
    return kind(shape, generator=generator, device=source).to(like.device)
