"""Writes bc.safetensors: what the behaviour-cloning policy computes from fixed weights and inputs.

Run by ``make golden``, after a change that is meant to alter numbers; the commit says why they differ.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.networks.earlier_weights import upgraded_weights
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


def drawn(source: np.random.RandomState, shape: tuple[int, ...]) -> Tensor:
    """Return numbers of a size that keeps a layer's output about as large as its input."""
    fan_in = int(np.prod(shape)) // shape[0] if shape else 1
    return torch.as_tensor(source.standard_normal(shape) / np.sqrt(fan_in), dtype=torch.float32).reshape(shape)


def vit_weights_of_the_first_version(policy: torch.nn.Module, source: np.random.RandomState) -> dict[str, Tensor]:
    """Return weights under the names, and drawn in the order, of when the encoder was our own and not torchvision's."""
    start, width, hidden = "encoders.shared.backbone", 128, 256
    forms: dict[str, tuple[int, ...]] = {"class_token_D": (width,), "positions_PD": (50, width)}
    forms |= {"patches.0.weight": (32, 3, 8, 8), "patches.0.bias": (32,)}
    forms |= {"patches.2.weight": (width, 32, 3, 3), "patches.2.bias": (width,)}
    for layer in range(4):
        sizes = {f"attention.{part}": (width, width) for part in ("query", "key", "value", "output")}
        sizes |= {"attention_norm": (width,), "mlp.inner": (hidden, width), "mlp.outer": (width, hidden)}
        for part, shape in {**sizes, "mlp_norm": (width,)}.items():
            forms |= {f"layers.{layer}.{part}.weight": shape, f"layers.{layer}.{part}.bias": shape[:1]}
    forms |= {"final_norm.weight": (width,), "final_norm.bias": (width,)}
    named = {f"{start}.{name}": shape for name, shape in forms.items()}
    named |= {name: tuple(p.shape) for name, p in policy.named_parameters() if not name.startswith(start)}
    return {name: drawn(source, shape) for name, shape in named.items()}


def load_as_in_the_first_version(policy: torch.nn.Module, source: np.random.RandomState) -> None:
    """Give a policy the weights that it had before its ViT was torchvision's: its numbers have not changed since."""
    policy.load_state_dict(upgraded_weights(policy, vit_weights_of_the_first_version(policy, source)))


def outputs() -> dict[str, Tensor]:
    """Return predictions and losses of every variant, each from the same inputs and the same rule for weights."""
    results = {}
    for name, options in VARIANTS.items():
        policy = build_policy("bc", {"inputs": INPUTS, "action": ACTION, **options}).eval()
        # RandomState's numbers are promised never to change; those of torch and of numpy's Generator are not.
        source = np.random.RandomState(0)
        if name == "vit":
            load_as_in_the_first_version(policy, source)
        else:
            for parameter in policy.parameters():
                parameter.data = drawn(source, tuple(parameter.shape))
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
