"""Which frames of an observation were encoded before. Compares pictures; encodes none.

A history of six frames shares five with that of the tick before, and encoding is nearly all of RT-1's work. Frames are
recognised by being equal, not by counting calls: a tick left out, an image that stood still or a repeated first frame
can then never attach one frame's tokens to another.

Axis legend: B batch, T frames, K tokens per frame, D their width, E of the conditioning vector.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vla_ros.policies.base import PolicyState

IMAGE, TOKENS, CONDITION = "image/", "tokens", "condition"

Frames = Mapping[str, Tensor]
"""Feature key of a camera → float [B, T, 3, h, w]."""


def cache_state(frames: Frames, tokens_BTKD: Tensor, condition_BE: Tensor | None) -> dict[str, Tensor]:
    """Return the policy state that holds encoded frames."""
    state = {f"{IMAGE}{key}": value for key, value in frames.items()} | {TOKENS: tokens_BTKD}
    return state if condition_BE is None else {**state, CONDITION: condition_BE}


def known_frames(frames: Frames, condition_BE: Tensor | None, state: PolicyState | None) -> list[int | None]:
    """Return, for each frame, the index of an equal one in the state, or None.

    Equal means: in all cameras and all samples of the batch, under the same condition.
    """
    steps = next(iter(frames.values())).shape[1]
    if state is None or not _fits(frames, condition_BE, state):
        return [None] * steps
    return [_find(frames, at, state) for at in range(steps)]


def _find(frames: Frames, at: int, state: PolicyState) -> int | None:
    steps = state[TOKENS].shape[1]
    # where it stands when one tick has passed comes first
    candidates = sorted(range(steps), key=lambda index: abs(index - (at + 1)))
    for index in candidates:
        if all(torch.equal(value[:, at], state[f"{IMAGE}{key}"][:, index]) for key, value in frames.items()):
            return index
    return None


def _fits(frames: Frames, condition_BE: Tensor | None, state: PolicyState) -> bool:
    if condition_BE is not None and not torch.equal(state[CONDITION], condition_BE):
        return False
    return all(len(value) == len(state[f"{IMAGE}{key}"]) for key, value in frames.items())
