"""Writes bc.safetensors: what the behaviour-cloning policy computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.policies import build_policy

FILE = Path(__file__).with_name("bc.safetensors")

INPUTS = {
    "observation.images.front": FeatureSpec("observation.images.front", "image", (84, 84, 3), "uint8", ("h", "w", "c")),
    "observation.images.wrist": FeatureSpec("observation.images.wrist", "image", (84, 84, 3), "uint8", ("h", "w", "c")),
    "observation.state": FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper")),
}
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))

VARIANTS: dict[str, dict[str, object]] = {
    "published": {},
    "keypoints": {"pooling": "spatial_softmax", "action_horizon": 8, "magnitude_names": ["dx", "dy", "dz"]},
    "history": {
        "n_obs_steps": 2,
        "share_encoder": True,
        "tanh": False,
        "objective": "mse",
        "magnitude_weighting": False,
    },
    "gru": {"n_obs_steps": 3, "gru_hidden_dim": 16, "share_encoder": True},
    "spherical": {"coordinates": "spherical", "magnitude_names": ["dx", "dy", "dz"], "action_horizon": 8},
    "resnet": {"backbone": "resnet_small", "pooling": "spatial_softmax", "share_encoder": True},
    "vit": {"backbone": "vit_small", "share_encoder": True},
}


def outputs() -> dict[str, Tensor]:
    """Return predictions and losses of every variant, each from the same inputs and the same rule for weights."""
    results = {}
    for name, options in VARIANTS.items():
        policy = build_policy("bc", {"inputs": INPUTS, "action": ACTION, **options}).eval()
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
                ("observation.images.front", (3, 84, 84)),
                ("observation.images.wrist", (3, 84, 84)),
                ("observation.state", (4,)),
            )
        }
        batch["action"] = torch.from_numpy(source.uniform(-1, 1, (2, horizon, 4))).float()
        if policy.config.needs_past_action:
            batch["past_action"] = torch.from_numpy(source.uniform(-1, 1, (2, frames - 1, 4))).float()
        batch["action_is_pad"] = torch.arange(horizon).expand(2, horizon) > 5
        results[f"{name}/actions"] = policy.predict_action_chunk(batch).actions
        results[f"{name}/loss"] = policy.compute_loss(batch).loss.detach()
    return results


if __name__ == "__main__":
    save_file(outputs(), FILE)
    print(f"wrote {FILE}")
