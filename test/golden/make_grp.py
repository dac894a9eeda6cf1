"""Writes grp.safetensors: what GRP computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.policies import build_policy

FILE = Path(__file__).with_name("grp.safetensors")

IMAGE = ("height", "width", "channels")
INPUTS = {
    key: FeatureSpec(key, "image", (16, 16, 3), "uint8", IMAGE)
    for key in ("observation.images.front", "observation.images.wrist", "goal.image")
}
INPUTS["observation.state"] = FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper"))
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))

COMMON = {"width": 24, "depth": 2, "n_heads": 3, "action_horizon": 3}
VARIANTS: dict[str, dict[str, object]] = {
    "published": {},
    "encoder": {"text": {"kind": "encoder", "source": "t5-small", "width": 8, "length": 12}},
    "keypoints": {"stem": "keypoints", "stem_tokens": 2, "n_obs_steps": 1},
    "bins": {"objective": "cross_entropy", "bins": 16},
}


def outputs() -> dict[str, Tensor]:
    """Return outputs under each choice of goal, and losses, of every variant."""
    results = {}
    for name, options in VARIANTS.items():
        policy = build_policy("grp", {"inputs": INPUTS, "action": ACTION, **COMMON, **options}).eval()
        # RandomState's numbers are promised never to change; those of torch and of numpy's Generator are not.
        source = np.random.RandomState(0)
        for parameter in policy.parameters():
            fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
            values = source.standard_normal(tuple(parameter.shape)) / np.sqrt(fan_in)
            parameter.data = torch.as_tensor(values, dtype=torch.float32).reshape(parameter.shape)
        frames = policy.config.n_obs_steps
        batch = {
            key: torch.from_numpy(source.standard_normal((2, frames, 3, 16, 16))).float()
            for key in policy.config.image_keys
        }
        batch["observation.state"] = torch.from_numpy(source.standard_normal((2, frames, 4))).float()
        batch["task_tokens"] = torch.from_numpy(source.randint(0, 90, (2, 12)))
        batch["task_embeddings"] = torch.from_numpy(source.standard_normal((2, 12, 8))).float()
        batch["task_mask"] = torch.arange(12).expand(2, 12) < torch.tensor([[4], [12]])
        batch["action"] = torch.from_numpy(source.uniform(-1, 1, (2, 3, 4))).float()
        batch["action_is_pad"] = torch.arange(3).expand(2, 3) >= torch.tensor([[2], [3]])
        with torch.no_grad():
            for goal, mask in (("both", None), ("words", True), ("picture", False)):
                results[f"{name}/{goal}"] = policy(batch, mask)
            results[f"{name}/loss"] = policy.compute_loss(batch).loss
    return results


if __name__ == "__main__":
    save_file(outputs(), FILE)
    print(f"wrote {FILE}")
