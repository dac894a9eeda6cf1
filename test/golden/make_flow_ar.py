"""Writes flow_ar.safetensors: what the flow and autoregressive policy computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.networks import encode_context
from vla_ros.objectives import FlowDraw
from vla_ros.policies import build_policy

FILE = Path(__file__).with_name("flow_ar.safetensors")

INPUTS = {
    "observation.images.front": FeatureSpec("observation.images.front", "image", (16, 16, 3), "uint8", ("h", "w", "c")),
    "observation.state": FeatureSpec("observation.state", "vector", (4,), "float32", ("x", "y", "z", "gripper")),
}
ACTION = FeatureSpec("action", "action", (4,), "float32", ("dx", "dy", "dz", "gripper"))
OPTIONS = {
    "action_horizon": 3,
    "bins": 32,
    "vision": {"kind": "vit", "patch_size": 8, "width": 12, "depth": 2, "n_heads": 2, "mlp_dim": 16},
    "attention": {"depth": 2, "n_heads": 4, "n_kv_heads": 2, "head_dim": 8},
    "prefix_expert": {"width": 24, "mlp_dim": 32},
    "action_expert": {"width": 16, "mlp_dim": 20},
    "text": {"kind": "tokenizer", "source": "nowhere", "length": 6, "vocabulary_size": 40},
}


def outputs() -> dict[str, Tensor]:
    """Return both decoders' outputs of one joint pass, and the decoded tokens; nothing is drawn by torch."""
    policy = build_policy("flow_ar", {"inputs": INPUTS, "action": ACTION, **OPTIONS}).eval()
    # RandomState's numbers are promised never to change; those of torch and of numpy's Generator are not.
    source = np.random.RandomState(0)
    for parameter in policy.parameters():
        fan_in = parameter.numel() // parameter.shape[0] if parameter.ndim > 1 else 1
        values = source.standard_normal(tuple(parameter.shape)) / np.sqrt(fan_in)
        parameter.data = torch.as_tensor(values, dtype=torch.float32).reshape(parameter.shape)
    batch = {
        "observation.images.front": torch.from_numpy(source.standard_normal((2, 1, 3, 16, 16))).float(),
        "observation.state": torch.from_numpy(source.standard_normal((2, 1, 4))).float(),
        "task_tokens": torch.from_numpy(source.randint(0, 40, (2, 6))),
        "task_mask": torch.arange(6).expand(2, 6) < torch.tensor([[4], [6]]),
    }
    actions = torch.from_numpy(source.uniform(-1, 1, (2, 3, 4))).float()
    noise = torch.from_numpy(source.standard_normal((2, 3, 4))).float()
    draw = FlowDraw(actions, noise, torch.tensor([0.2, 0.7]), torch.arange(3).expand(2, 3) >= torch.tensor([[2], [3]]))
    with torch.no_grad():
        context = policy.embed_context(batch)
        velocity, logits = policy.joint(context, draw, policy.bins.encode(actions).flatten(1))
        bins = policy.sample_bins(encode_context(context))
    return {"velocity": velocity, "logits": logits, "bins": bins}


if __name__ == "__main__":
    save_file(outputs(), FILE)
