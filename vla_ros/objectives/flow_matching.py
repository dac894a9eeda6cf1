"""Flow matching with a straight path from noise to actions: its convention, time sampling, loss and integration.

Axis legend: B batch, H action_horizon, A action_dim. Time runs from 0 (noise) to 1 (actions):
``x_t = t * action + (1 - t) * noise``, so the velocity to learn is ``action - noise``.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_ros.objectives.noise import Denoiser, draw_with, sample_noise
from vla_ros.objectives.regression import mse, of_numbers, padding_of_numbers

LATEST_TIME = 0.999
NOISE_EXPONENT = 1.5


def sample_flow_time(
    count: int, generator: torch.Generator | None = None, device: torch.device | str | None = None
) -> Tensor:
    """Draw times for training, float32 [count] in [0, 0.999]: ``0.999 (1 - x)`` with x from Beta(1.5, 1).

    Early times, where the path is mostly noise and the choice of action is still open, are drawn more often.
    """
    uniform_B = draw_with(torch.rand, (count,), generator, device)
    # the distribution function of Beta(a, 1) is x^a, which inverts; torch's own sampler takes no generator
    return LATEST_TIME * (1.0 - uniform_B ** (1.0 / NOISE_EXPONENT))


@dataclass(frozen=True)
class FlowDraw:
    """One training draw per sample: which point of which path the model is asked about.

    Attributes:
        actions_BHA: Where the path ends, float [B, H, A]; 0 in padding.
        noise_BHA: Where it begins.
        time_B: Where on it, float [B].
        is_pad_BH: bool [B, H], True past the episode's end.
        dim_is_pad_BA: bool [B, A], True for numbers that there are not: 0 along the whole path. None: all there.
    """

    actions_BHA: Tensor
    noise_BHA: Tensor
    time_B: Tensor
    is_pad_BH: Tensor
    dim_is_pad_BA: Tensor | None = None

    @property
    def noised_BHA(self) -> Tensor:
        """The point, float [B, H, A]: what the model sees."""
        time_B11 = self.time_B[:, None, None]
        return time_B11 * self.actions_BHA + (1.0 - time_B11) * self.noise_BHA

    def loss(self, velocity_BHA: Tensor, weight_BH1: Tensor | None = None) -> Tensor:
        """Return the mean squared error of the velocity predicted at the point, over the steps that are not padding."""
        is_pad = padding_of_numbers(self.is_pad_BH, self.dim_is_pad_BA)
        return mse(velocity_BHA, self.actions_BHA - self.noise_BHA, is_pad, weight_BH1)


def draw_flow(
    actions_BHA: Tensor,
    is_pad_BH: Tensor,
    count: int = 1,
    generator: torch.Generator | None = None,
    dim_is_pad_BA: Tensor | None = None,
) -> FlowDraw:
    """Draw noise and time, `count` times in a row for each sample.

    Args:
        actions_BHA: Normalised actions, float [B, H, A].
        is_pad_BH: bool [B, H].
        count: Draws per sample; the draw holds ``count * B`` of them.
        generator: Source of chance.
        dim_is_pad_BA: bool [B, A], True for numbers that there are not.
    """
    is_pad = padding_of_numbers(is_pad_BH, dim_is_pad_BA)
    actions_BHA = actions_BHA.masked_fill(of_numbers(is_pad), 0.0).repeat_interleave(count, dim=0)
    noise_BHA = sample_noise(tuple(actions_BHA.shape), generator, actions_BHA.device)
    time_B = sample_flow_time(len(actions_BHA), generator, actions_BHA.device)
    is_pad_BH = is_pad_BH.repeat_interleave(count, dim=0)
    if dim_is_pad_BA is not None:
        dim_is_pad_BA = dim_is_pad_BA.repeat_interleave(count, dim=0)
        noise_BHA = noise_BHA.masked_fill(dim_is_pad_BA[:, None], 0.0)
    return FlowDraw(actions_BHA, noise_BHA, time_B, is_pad_BH, dim_is_pad_BA)


@dataclass(frozen=True)
class FlowMatching:
    """The objective: a network learns the velocity from noise to actions, and sampling follows it.

    Attributes:
        term: What the loss is called in logs.
        sample_steps: Euler steps.
    """

    term: ClassVar[str] = "flow"
    clip: ClassVar[float | None] = None

    sample_steps: int = 10

    @classmethod
    def from_options(cls, options: Any) -> "FlowMatching":
        """Build it of a policy's options."""
        return cls(options.flow_steps)

    def draw(
        self,
        actions_BHA: Tensor,
        is_pad_BH: Tensor,
        count: int = 1,
        generator: torch.Generator | None = None,
        dim_is_pad_BA: Tensor | None = None,
    ) -> FlowDraw:
        """Draw as `draw_flow`."""
        return draw_flow(actions_BHA, is_pad_BH, count, generator, dim_is_pad_BA)

    def sample(self, predict: Denoiser, noise_BHA: Tensor, prefix_BPA: Tensor | None = None) -> Tensor:
        """Go from noise to actions as `integrate_flow`."""
        return integrate_flow(predict, noise_BHA, self.sample_steps, prefix_BPA)


def integrate_flow(velocity: Denoiser, noise_BHA: Tensor, steps: int, prefix_BPA: Tensor | None = None) -> Tensor:
    """Follow the velocity from noise at time 0 to actions at time 1, by Euler's method.

    Args:
        velocity: (x [B, H, A], time [B]) → velocity [B, H, A]; called `steps` times.
        noise_BHA: Where to start.
        steps: Equal steps of 1 / steps.
        prefix_BPA: Actions known already, the first P of the chunk: at every time they are on their own path from the
            noise to what they are, and the others are drawn along by them.
    """
    x_BHA, known = noise_BHA, 0 if prefix_BPA is None else prefix_BPA.shape[1]
    for index in range(steps):
        time = index / steps
        if prefix_BPA is not None and known:
            on_path_BPA = time * prefix_BPA + (1.0 - time) * noise_BHA[:, :known]
            x_BHA = torch.cat([on_path_BPA, x_BHA[:, known:]], dim=1)
        time_B = torch.full((len(x_BHA),), time, device=x_BHA.device)
        x_BHA = x_BHA + velocity(x_BHA, time_B) / steps
    return x_BHA if prefix_BPA is None else torch.cat([prefix_BPA, x_BHA[:, known:]], dim=1)
