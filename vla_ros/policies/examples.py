"""Example batches that fit a policy's config: for tests, benchmarks and documentation. Random numbers, no meaning."""

import math
from typing import Any

import torch
from torch import Tensor

from vla_ros.policies.base import PolicyConfig, image_shape
from vla_ros.processors import TextSpec


def make_example_batch(config: PolicyConfig, batch_size: int = 2, seed: int = 0) -> dict[str, Any]:
    """Return a normalised training batch as `vla_ros.policies.base` describes it; nothing in it is padding.

    Where the config reads an instruction, its tensors are there too, the second half of each being padding.

    Args:
        config: Which features, and their sizes.
        batch_size: B.
        seed: Equal seeds give equal batches.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    steps, horizon = config.n_obs_steps, config.action_horizon
    batch: dict[str, Any] = {}
    for key, spec in config.inputs.items():
        shape = image_shape(spec) if spec.kind == "image" else spec.shape
        batch[key] = normal(batch_size, steps, *shape)
    batch["action"] = torch.rand((batch_size, horizon, config.action_dim), generator=generator) * 2.0 - 1.0
    batch["action_is_pad"] = torch.zeros(batch_size, horizon, dtype=torch.bool)
    if config.needs_past_action:
        batch["past_action"] = torch.rand((batch_size, steps - 1, config.action_dim), generator=generator) * 2.0 - 1.0
    batch["is_pad"] = torch.zeros(batch_size, steps, dtype=torch.bool)
    batch["task"] = ["push the puck to the goal"] * batch_size
    return batch if config.text is None else {**batch, **_text(config.text, batch_size, generator)}


def _text(spec: TextSpec, batch_size: int, generator: torch.Generator) -> dict[str, Tensor]:
    if spec.form == "vector":
        vector_BE = torch.randn((batch_size, spec.embedding_width), generator=generator)
        return {"task_embedding": torch.nn.functional.normalize(vector_BE, dim=-1)}
    mask_BL = (torch.arange(spec.length) < math.ceil(spec.length / 2)).expand(batch_size, spec.length)
    if spec.is_tokens:
        tokens_BL = torch.randint(0, spec.n_tokens, (batch_size, spec.length), generator=generator)
        return {"task_tokens": tokens_BL, "task_mask": mask_BL}
    vectors_BLE = torch.randn((batch_size, spec.length, spec.embedding_width), generator=generator)
    return {"task_embeddings": vectors_BLE * mask_BL[..., None], "task_mask": mask_BL}
