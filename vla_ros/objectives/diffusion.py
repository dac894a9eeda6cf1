"""Denoising diffusion of action chunks: noise schedule, training draws, loss, DDIM sampling. No architecture.

The schedule is the squared cosine of Nichol & Dhariwal (2021), sampling that of Song et al. (2021) with η = 0: nothing
is drawn after the first noise.

Axis legend: B batch, H action_horizon, A action_dim. Step t runs from 0 (nearly actions) to train_steps − 1 (noise):
``x_t = √ᾱ_t * action + √(1 − ᾱ_t) * noise``; what is to be learned is the noise.
"""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate, pairwise
from operator import mul
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.objectives.noise import Denoiser, draw_with, sample_noise
from vla_ros.objectives.regression import mse, of_numbers, padding_of_numbers

OFFSET = 0.008
LARGEST_BETA = 0.999

Spacing = Literal["trailing", "leading"]


@dataclass(frozen=True)
class DiffusionDraw:
    """One training draw per sample: which noisy chunk the model is asked about.

    Attributes:
        noised_BHA: What the model sees, float [B, H, A]; noise alone in padding.
        noise_BHA: What it is to predict.
        time_B: How noisy, float32 [B]: step / train_steps, in [0, 1).
        is_pad_BH: bool [B, H], True past the episode's end.
        dim_is_pad_BA: bool [B, A], True for numbers that there are not: 0 at every level. None: all there.
    """

    noised_BHA: Tensor
    noise_BHA: Tensor
    time_B: Tensor
    is_pad_BH: Tensor
    dim_is_pad_BA: Tensor | None = None

    def loss(self, predicted_BHA: Tensor, weight_BH1: Tensor | None = None) -> Tensor:
        """Return the mean squared error of the noise predicted, over the steps that are not padding."""
        return mse(predicted_BHA, self.noise_BHA, padding_of_numbers(self.is_pad_BH, self.dim_is_pad_BA), weight_BH1)


@dataclass(frozen=True)
class Diffusion:
    """A noise schedule, and the steps by which sampling goes back through it.

    Attributes:
        train_steps: Noise levels.
        sample_steps: Levels visited in sampling, at most all.
        clip: Sampling clips each estimate of the actions to [−clip, clip]; None never does. 1 is right for actions
            normalised to [−1, 1] and wrong for others, which need a limit that none of them passes. Do without only
            where the network is nearly perfect: the noisiest of 100 levels is so near pure noise (√ᾱ = 5e-4) that the
            estimate there is off by 2,000 times the error of the predicted noise.
        spacing: Which levels are visited. ``trailing`` includes the noisiest, at which sampling begins; ``leading``
            includes the least noisy instead.

        term: What the loss is called in logs.

    Raises:
        ConfigError: Steps below 1 or more sampled than trained, a limit of 0 or less, or an unknown spacing.
    """

    term: ClassVar[str] = "diffusion"

    train_steps: int = 100
    sample_steps: int = 10
    clip: float | None = None
    spacing: Spacing = "trailing"

    def __post_init__(self) -> None:
        for name in ("train_steps", "sample_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")
        if self.sample_steps > self.train_steps:
            raise ConfigError(
                f"sample_steps={self.sample_steps} exceeds train_steps={self.train_steps}; "
                "sampling visits each noise level at most once."
            )
        if self.clip is not None and not self.clip > 0.0:
            raise ConfigError(f"clip={self.clip:g} must be above 0; None clips nothing.")
        known = get_args(Spacing)
        if self.spacing not in known:
            hint = nearest_name(self.spacing, known)
            raise ConfigError(f"spacing '{self.spacing}' is not one of {', '.join(known)}.{hint}")

    @classmethod
    def from_options(cls, options: Any) -> "Diffusion":
        """Build it of a policy's options."""
        return cls(options.diffusion_train_steps, options.flow_steps, options.diffusion_clip)

    @cached_property
    def betas(self) -> tuple[float, ...]:
        """β of each step: the share of variance replaced by noise from one level to the next."""

        def level(time: float) -> float:
            return math.cos((time + OFFSET) / (1.0 + OFFSET) * math.pi / 2.0) ** 2

        ends = [level(step / self.train_steps) for step in range(self.train_steps + 1)]
        return tuple(min(1.0 - end / start, LARGEST_BETA) for start, end in pairwise(ends))

    @cached_property
    def alpha_bars(self) -> tuple[float, ...]:
        """ᾱ of each step, falling: the share of variance that is still the actions'."""
        # Python's floats are float64: in float32, 1 − 0.999 alone is wrong in the fifth digit
        return tuple(accumulate((1.0 - beta for beta in self.betas), mul))

    @property
    def timesteps(self) -> tuple[int, ...]:
        """Steps visited in sampling, noisiest first."""
        count, steps = self.sample_steps, self.train_steps
        if self.spacing == "leading":
            return tuple(steps // count * left for left in reversed(range(count)))
        return tuple(round(steps * left / count) - 1 for left in range(count, 0, -1))

    def draw(
        self,
        actions_BHA: Tensor,
        is_pad_BH: Tensor,
        count: int = 1,
        generator: torch.Generator | None = None,
        dim_is_pad_BA: Tensor | None = None,
    ) -> DiffusionDraw:
        """Draw noise and how much of it, `count` times in a row for each sample; each level is equally likely.

        Args:
            actions_BHA: Normalised actions, float [B, H, A].
            is_pad_BH: bool [B, H].
            count: Draws per sample; the draw holds ``count * B`` of them.
            generator: Source of chance.
            dim_is_pad_BA: bool [B, A], True for numbers that there are not.
        """
        is_pad = of_numbers(padding_of_numbers(is_pad_BH, dim_is_pad_BA))
        actions_BHA = actions_BHA.masked_fill(is_pad, 0.0).repeat_interleave(count, dim=0)
        noise_BHA = sample_noise(tuple(actions_BHA.shape), generator, actions_BHA.device)
        if dim_is_pad_BA is not None:
            dim_is_pad_BA = dim_is_pad_BA.repeat_interleave(count, dim=0)
            noise_BHA = noise_BHA.masked_fill(dim_is_pad_BA[:, None], 0.0)
        levels = partial(torch.randint, self.train_steps)
        step_B = draw_with(levels, (len(actions_BHA),), generator, actions_BHA.device)
        noised_BHA = self.noised(actions_BHA, noise_BHA, step_B)
        is_pad_BH = is_pad_BH.repeat_interleave(count, dim=0)
        return DiffusionDraw(noised_BHA, noise_BHA, self._time(step_B), is_pad_BH, dim_is_pad_BA)

    def noised(self, actions_BHA: Tensor, noise_BHA: Tensor, step_B: Tensor) -> Tensor:
        """Return ``√ᾱ * action + √(1 − ᾱ) * noise``, float [B, H, A], at steps int64 [B]."""
        shares = [(math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar)) for alpha_bar in self.alpha_bars]
        table = torch.tensor(shares, dtype=actions_BHA.dtype, device=actions_BHA.device)
        of_actions_B, of_noise_B = table[step_B].unbind(dim=-1)
        return of_actions_B[:, None, None] * actions_BHA + of_noise_B[:, None, None] * noise_BHA

    def denoised(self, x_BHA: Tensor, noise_BHA: Tensor, step: int, target: int | None) -> Tensor:
        """Go from one noise level to a lower one, by the noise predicted.

        Args:
            x_BHA: Chunk at level `step`, float [B, H, A].
            noise_BHA: Noise predicted in it.
            step: Level of the chunk.
            target: Level to reach; None for no noise at all, where the estimate of the actions is returned.

        Returns:
            float [B, H, A], of the chunk's type; only the schedule is float64.
        """
        alpha_bar = self.alpha_bars[step]
        target_alpha_bar = 1.0 if target is None else self.alpha_bars[target]
        actions_BHA = (x_BHA - math.sqrt(1.0 - alpha_bar) * noise_BHA) / math.sqrt(alpha_bar)
        if self.clip is not None:
            actions_BHA = actions_BHA.clamp(-self.clip, self.clip)
            # The noise that goes with them. With the one predicted, a chunk which the model does not know, and whose
            # noise it overrates, grows from step to step instead of being pulled back.
            noise_BHA = (x_BHA - math.sqrt(alpha_bar) * actions_BHA) / math.sqrt(1.0 - alpha_bar)
        return math.sqrt(target_alpha_bar) * actions_BHA + math.sqrt(1.0 - target_alpha_bar) * noise_BHA

    def sample(self, predict: Denoiser, noise_BHA: Tensor, prefix_BPA: Tensor | None = None) -> Tensor:
        """Go from noise to actions, through the levels of `timesteps`.

        Args:
            predict: Predicts the noise, float [B, H, A]; called `sample_steps` times.
            noise_BHA: Where to start, standard normal, float [B, H, A].
            prefix_BPA: Actions known already, the first P of the chunk: at every level they have its noise, and the
                others are drawn along by them.
        """
        x_BHA, steps, known = noise_BHA, self.timesteps, 0 if prefix_BPA is None else prefix_BPA.shape[1]
        for step, target in zip(steps, (*steps[1:], None), strict=True):
            if prefix_BPA is not None and known:
                signal, noise = math.sqrt(self.alpha_bars[step]), math.sqrt(1.0 - self.alpha_bars[step])
                x_BHA = torch.cat([signal * prefix_BPA + noise * noise_BHA[:, :known], x_BHA[:, known:]], dim=1)
            time_B = self._time(torch.full((len(x_BHA),), step, device=x_BHA.device))
            x_BHA = self.denoised(x_BHA, predict(x_BHA, time_B), step, target)
        return x_BHA if prefix_BPA is None else torch.cat([prefix_BPA, x_BHA[:, known:]], dim=1)

    def _time(self, step_B: Tensor) -> Tensor:
        return step_B.float() / self.train_steps
