"""Writes rt1.safetensors: what RT-1 computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.policies import build_policy

FILE = Path(__file__).with_name("rt1.safetensors")

IMAGE = ("height", "width", "channels")
CAMERAS = ("observation.images.front", "observation.images.wrist")
INPUTS = {key: FeatureSpec(key, "image", (32, 32, 3), "uint8", IMAGE) for key in CAMERAS}
INPUTS["observation.state"] = FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper"))
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))

COMMON = {
    "text": {"kind": "sentence_embedding", "source": "any", "width": 8},
    "n_obs_steps": 3,
    "token_dim": 16,
    "tokens_per_image": 2,
    "learner_dim": 8,
    "depth": 2,
    "n_heads": 2,
    "mlp_dim": 24,
    "bins": 16,
}
VARIANTS: dict[str, dict[str, object]] = {
    "efficientnet": {"grid": 3, "categories": {"gripper": [-1.0, 1.0]}},
    "small_conv": {"trunk": "small_conv", "grid": None, "learner_weights": "softmax", "action_horizon": 2},
}


def outputs() -> dict[str, Tensor]:
    """Return tokens, logits and losses of every variant."""
    results = {}
    for name, options in VARIANTS.items():
        policy = build_policy("rt1", {"inputs": INPUTS, "action": ACTION, **COMMON, **options}).eval()
        # RandomState's numbers are promised never to change; those of torch and of numpy's Generator are not.
        source = np.random.RandomState(0)
        for key, parameter in policy.named_parameters():
            fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
            values = source.standard_normal(tuple(parameter.shape)) / np.sqrt(fan_in)
            if ".films." in key:
                values *= 0.1  # 26 layers in a row
            parameter.data = torch.as_tensor(values, dtype=torch.float32).reshape(parameter.shape)
        batch = {key: torch.from_numpy(source.standard_normal((2, 3, 3, 32, 32))).float() for key in CAMERAS}
        batch["observation.state"] = torch.from_numpy(source.standard_normal((2, 3, 4))).float()
        batch["task_embedding"] = torch.from_numpy(source.standard_normal((2, 8))).float()
        batch["is_pad"] = torch.arange(3).expand(2, 3) < torch.tensor([[1], [0]])
        horizon = policy.config.action_horizon
        batch["action"] = torch.from_numpy(source.uniform(-1, 1, (2, horizon, 4))).float()
        batch["action_is_pad"] = torch.zeros(2, horizon, dtype=torch.bool)
        with torch.no_grad():
            frames = {key: batch[key] for key in CAMERAS}
            results[f"{name}/tokens"] = policy.frame_tokens(frames, policy.condition(batch))
            # minus infinity, of classes that are never taken, compares with nothing
            results[f"{name}/logits"] = policy(batch).clamp(min=-1e9)
            results[f"{name}/loss"] = policy.compute_loss(batch).loss
    return results


if __name__ == "__main__":
    save_file(outputs(), FILE)
    print(f"wrote {FILE}")
