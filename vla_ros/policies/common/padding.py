"""Takes out of a training batch whatever stands in its padding. No weights.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim.
"""

from collections.abc import Iterable

from torch import Tensor

from vla_ros.networks.temporal.frame_padding import frame_sources, take_frames
from vla_ros.policies.base import Batch


def without_padded_values(batch: Batch, frame_keys: Iterable[str]) -> dict[str, object]:
    """Return a batch whose padding holds nothing of its own: NaN spreads even where its weight is zero.

    Frames before an episode's begin become its first frame; actions after its end, and past actions before its begin,
    become zero. An architecture that masks what is padded gives the same loss as before.

    Args:
        batch: Normalised; ``is_pad`` bool [B, T] and ``action_is_pad`` bool [B, H] say what is padding.
        frame_keys: Keys of values [B, T, ...]; those absent are passed over.
    """
    result = dict(batch)
    is_pad_BT = batch.get("is_pad")
    if isinstance(is_pad_BT, Tensor) and is_pad_BT.shape[1] > 1 and bool(is_pad_BT.any()):
        sources_BT = frame_sources(is_pad_BT)
        for key in frame_keys:
            if key in batch:
                result[key] = take_frames(batch[key], sources_BT)
        if "past_action" in batch:
            result["past_action"] = batch["past_action"].masked_fill(is_pad_BT[:, :-1, None], 0.0)
    if "action" in batch and "action_is_pad" in batch:
        result["action"] = batch["action"].masked_fill(batch["action_is_pad"][..., None], 0.0)
    return result
