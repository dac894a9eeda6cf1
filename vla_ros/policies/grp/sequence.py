"""Where each kind of token stands in GRP's sequence, and which of them a goal choice hides. Numbers and booleans only.

Axis legend: B batch, L tokens of the sequence. In masks, True means "may be attended to".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

GoalChoice = bool | None
"""True: follow the words, the goal image is hidden. False: follow the image, the words are hidden. None: both."""


@dataclass(frozen=True)
class TokenLayout:
    """``[CLS | cameras | proprioception | GOAL_IMG, goal image | text]``; a part that is not there has length 0.

    Attributes:
        n_camera: Tokens of all cameras and frames.
        n_state: Tokens of proprioception, 0 or 1.
        n_goal: Tokens of the goal image and, before them, its marker.
        n_text: Tokens of the instruction.
    """

    n_camera: int
    n_state: int
    n_goal: int
    n_text: int

    @property
    def length(self) -> int:
        """L."""
        return 1 + self.n_camera + self.n_state + self.n_goal + self.n_text

    @property
    def goal(self) -> slice:
        """Place of the goal image, its marker included."""
        start = 1 + self.n_camera + self.n_state
        return slice(start, start + self.n_goal)

    @property
    def text(self) -> slice:
        """Place of the instruction."""
        return slice(self.length - self.n_text, self.length)


def block_mask(choice: GoalChoice, layout: TokenLayout, device: torch.device | str | None = None) -> Tensor:
    """Return which tokens may be attended to, bool [L]."""
    visible_L = torch.ones(layout.length, dtype=torch.bool, device=device)
    if choice is not None:
        visible_L[layout.goal if choice else layout.text] = False
    return visible_L


def draw_goal_choices(
    share: float, layout: TokenLayout, batch_size: int, generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Draw a mask per training sample, bool [B, L]: with probability `share` one goal, by a toss, is hidden."""
    source = device if generator is None else generator.device
    drawn_B2 = torch.rand(batch_size, 2, generator=generator, device=source).to(device)
    dropped_B, words_B = drawn_B2[:, 0] < share, drawn_B2[:, 1] < 0.5
    both_L, words_L, image_L = (block_mask(choice, layout, device) for choice in (None, True, False))
    chosen_BL = torch.where(words_B[:, None], words_L, image_L)
    return torch.where(dropped_B[:, None], chosen_BL, both_L)
