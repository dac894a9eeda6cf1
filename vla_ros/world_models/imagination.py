"""What a world model expects to see: some frames of context, and then actions alone.

Axis legend: B batch, T frames.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vla_ros.world_models.policy import WorldModelPolicy


@torch.no_grad()
def open_loop(policy: WorldModelPolicy, batch: Mapping[str, Tensor], context: int) -> dict[str, Tensor]:
    """Decode a sequence of which only the first frames are seen.

    Args:
        policy: With a trained model.
        batch: Normalised frames [B, T, ...], ``past_action`` [B, T-1, A] and ``is_pad``; no padding in it.
        context: Frames that are seen, at least 1.

    Returns:
        Key → frames [B, T, ...]: those of the context as they are decoded, later ones as they are imagined.
    """
    model = policy.model
    sequences = policy.sequences(batch)
    seen = model.rssm.observe(
        sequences.action_BTA[:, :context],
        model.embed({key: values[:, :context] for key, values in sequences.inputs.items()}),
        sequences.is_first_BT[:, :context],
        sample=False,
    )
    imagined = model.rssm.imagine(seen.latents[-1], sequences.action_BTA[:, context:], sample=False)
    features = torch.stack([latent.features for latent in (*seen.latents, *imagined)], dim=1)
    return model.decode(features)
