"""Writes act.safetensors: what ACT, in both variants, computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.objectives import kl_to_standard_normal
from vla_ros.policies import build_policy

FILE = Path(__file__).with_name("act.safetensors")

INPUTS = {
    "observation.images.front": FeatureSpec("observation.images.front", "image", (48, 48, 3), "uint8", ("h", "w", "c")),
    "observation.images.wrist": FeatureSpec("observation.images.wrist", "image", (48, 48, 3), "uint8", ("h", "w", "c")),
    "observation.state": FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper")),
}
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))
SIZES = {"width": 64, "n_heads": 4, "mlp_dim": 96, "n_encoder_layers": 2, "n_decoder_layers": 3, "dropout": 0.0}

VARIANTS: dict[str, dict[str, object]] = {
    "walkthrough": {"n_obs_steps": 2, "action_horizon": 6, "head_dims": [48]},
    "spherical": {"action_horizon": 6, "coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"]},
    "cvae": {"action_horizon": 6, "latent_dim": 8, "backbone": "resnet_small", "share_encoder": False},
}


def outputs() -> dict[str, Tensor]:
    """Return predictions, losses and divergences of every variant, from the same inputs and rule for weights."""
    results = {}
    for name, options in VARIANTS.items():
        architecture = "act" if name == "cvae" else "act_walkthrough"
        policy = build_policy(architecture, {"inputs": INPUTS, "action": ACTION, **SIZES, **options}).eval()
        # RandomState's numbers are promised never to change; those of torch and of numpy's Generator are not.
        source = np.random.RandomState(0)
        for parameter in policy.parameters():
            fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim else 1
            values = source.standard_normal(tuple(parameter.shape)) / np.sqrt(fan_in)
            parameter.data = torch.as_tensor(values, dtype=torch.float32).reshape(parameter.shape)
        frames, horizon = policy.config.n_obs_steps, policy.config.action_horizon
        batch = {
            key: torch.from_numpy(source.standard_normal((2, frames, *shape))).float()
            for key, shape in (
                ("observation.images.front", (3, 48, 48)),
                ("observation.images.wrist", (3, 48, 48)),
                ("observation.state", (4,)),
            )
        }
        batch["action"] = torch.from_numpy(source.uniform(-1, 1, (2, horizon, 4))).float()
        batch["action_is_pad"] = torch.arange(horizon).expand(2, horizon) > torch.tensor([[3], [5]])
        results[f"{name}/actions"] = policy.predict_action_chunk(batch).actions
        if policy.latent is None:
            results[f"{name}/loss"] = policy.compute_loss(batch).loss.detach()
        else:  # its loss draws noise, whose numbers torch does not promise
            state = batch["observation.state"][:, -1]
            mean, log_variance = (
                part.detach() for part in policy.latent(batch["action"], batch["action_is_pad"], state)
            )
            results |= {f"{name}/mean": mean, f"{name}/log_variance": log_variance}
            results[f"{name}/kl"] = kl_to_standard_normal(mean, log_variance)
    return results


if __name__ == "__main__":
    save_file({name: value.contiguous() for name, value in outputs().items()}, FILE)
    print(f"wrote {FILE}")
