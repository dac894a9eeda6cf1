"""Writes pi0.safetensors: what π₀ computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.networks import encode_context
from vla_ros.policies import build_policy

FILE = Path(__file__).with_name("pi0.safetensors")

IMAGE = ("height", "width", "channels")
INPUTS = {
    key: FeatureSpec(key, "image", (16, 16, 3), "uint8", IMAGE)
    for key in ("observation.images.front", "observation.images.wrist", "goal.image")
}
INPUTS["observation.state"] = FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper"))
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))

COMMON = {
    "action_horizon": 5,
    "attention": {"depth": 2, "n_heads": 4, "n_kv_heads": 1, "head_dim": 8},
    "prefix_expert": {"width": 24, "mlp_dim": 32},
    "action_expert": {"width": 16, "mlp_dim": 20},
}
VARIANTS: dict[str, dict[str, object]] = {
    "patches": {
        "vision": {"kind": "vit", "patch_size": 8, "width": 12, "depth": 2, "n_heads": 2, "mlp_dim": 16},
        "text": {"kind": "tokenizer", "source": "nowhere", "length": 6, "vocabulary_size": 40},
        "n_obs_steps": 2,
    },
    "keypoints": {"vision": {"kind": "keypoints", "share": False, "n_tokens": 3}, "text": None},
}


def outputs() -> dict[str, Tensor]:
    """Return velocities, integrated actions and losses of every variant; nothing is drawn by torch."""
    results = {}
    for name, options in VARIANTS.items():
        policy = build_policy("pi0", {"inputs": INPUTS, "action": ACTION, **COMMON, **options}).eval()
        # RandomState's numbers are promised never to change; those of torch and of numpy's Generator are not.
        source = np.random.RandomState(0)
        for parameter in policy.parameters():
            fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
            values = source.standard_normal(tuple(parameter.shape)) / np.sqrt(fan_in)
            parameter.data = torch.as_tensor(values, dtype=torch.float32).reshape(parameter.shape)
        steps = policy.config.n_obs_steps
        batch = {
            key: torch.from_numpy(source.standard_normal((2, steps, *((3, 16, 16) if "ima" in key else (4,))))).float()
            for key in INPUTS
        }
        batch["is_pad"] = torch.zeros(2, steps, dtype=torch.bool)
        batch["is_pad"][0, : steps - 1] = True
        batch["task_tokens"] = torch.from_numpy(source.randint(0, 40, (2, 6)))
        batch["task_mask"] = torch.arange(6).expand(2, 6) < torch.tensor([[4], [6]])
        noise = torch.from_numpy(source.standard_normal((2, 5, 4))).float()
        with torch.no_grad():
            context = policy.embed_context(batch)
            encoded = encode_context(context)
            valid, time = torch.arange(5).expand(2, 5) < torch.tensor([[3], [5]]), torch.tensor([0.2, 0.7])
            results[f"{name}/velocity"] = policy.joint_velocity(context, noise, time, valid)
            x = noise
            for step in range(10):
                x = x + policy.velocity(x, torch.full((2,), step / 10), encoded) / 10
            results[f"{name}/actions"] = x
    return results


if __name__ == "__main__":
    save_file(outputs(), FILE)
