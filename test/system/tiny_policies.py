"""Every architecture in a size that predicts in milliseconds, untrained, as a checkpoint for the simulated robot."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_ros.checkpoint import save_checkpoint
from vla_ros.contract import GOAL_IMAGE, RobotContract
from vla_ros.policies import build_policy
from vla_ros.processors import ProcessorOptions, Processors, TextSpec, text_models

INPUTS = ("observation.images.front", "observation.images.wrist", "observation.state")
HORIZON = 8
"""Steps of every chunk: inference may take 0.4 s before the robot has nothing to do."""

_GRP = {"width": 32, "depth": 1, "n_heads": 2, "patch_size": 28}
_MOTION = {"magnitude_names": ("dx", "dy", "dz")}
_ACT = {"width": 32, "n_heads": 2, "mlp_dim": 32, "n_encoder_layers": 1, "n_decoder_layers": 1, "head_dims": (16,)}
_RT1 = {"n_obs_steps": 3, "trunk": "small_conv", "grid": None, "token_dim": 32, "tokens_per_image": 2}
_RT1 |= {"learner_dim": 8, "depth": 1, "n_heads": 2, "mlp_dim": 32, "bins": 64}
_FLOW = {
    "vision": {"kind": "keypoints", "backbone": "cnn", "n_tokens": 2},
    "attention": {"depth": 2, "n_heads": 2, "n_kv_heads": 1, "head_dim": 16},
    "prefix_expert": {"width": 32, "mlp_dim": 32},
    "action_expert": {"width": 24, "mlp_dim": 32},
    "text": None,
}
_STEPS = {"flow_steps": 4}
_CHARACTERS = {"text": {"kind": "characters", "length": 25}}
# Of a model that is nowhere: what the checkpoint knows must be enough.
_SENTENCE = {"kind": "sentence_embedding", "source": "/not/installed", "width": 16}

POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bc_cnn": ("bc", {"hidden_dims": (16,)}),
    "bc_resnet_small": ("bc", {"hidden_dims": (16,), "backbone": "resnet_small", "pooling": "spatial_softmax"}),
    "bc_vit_small": ("bc", {"hidden_dims": (16,), "backbone": "vit_small", "pooling": "spatial_softmax"}),
    "bc_gru": ("bc", {"hidden_dims": (16,), "gru_hidden_dim": 16, "n_obs_steps": 4}),
    "bc_spherical": ("bc", {"hidden_dims": (16,), "coordinates": "spherical", **_MOTION}),
    "act": ("act_walkthrough", {**_ACT, "n_obs_steps": 2}),
    "act_cvae": ("act", {**_ACT, "cvae": True, "backbone": "cnn_coarse", "latent_dim": 4}),
    "grp": ("grp", {**_GRP, "text": {"kind": "characters", "length": 32}}),
    "rt1": ("rt1", {**_RT1, "text": None}),
    "rt1_sentence": ("rt1", {**_RT1, "text": _SENTENCE}),
    "pi0": ("pi0", {**_FLOW, **_STEPS}),
    "flow_ar_flow": ("flow_ar", {**_FLOW, **_STEPS, "decode": "flow"}),
    "flow_ar_autoregressive": ("flow_ar", {**_FLOW, **_CHARACTERS, "decode": "autoregressive", "bins": 1024}),
    "pi0_diffusion": ("pi0", {**_FLOW, **_STEPS, "objective": "diffusion"}),
    "grp_goal": ("grp", {**_GRP, "text": None, "n_obs_steps": 1, "tanh": True}),
}
"""Name → (architecture, options)."""

GOAL_POLICIES = ("grp_goal",)
"""Those that need a picture of the goal."""


class _FixedEmbedding(text_models.TextModel):
    """Stands for a sentence encoder while the checkpoint is made."""

    def __init__(self, spec: TextSpec) -> None:
        self._width = spec.embedding_width

    def embed(self, instruction: str) -> dict[str, torch.Tensor]:
        return {"task_embedding": torch.arange(self._width, dtype=torch.float32).add(len(instruction)).sin()}


def save_tiny_policy(name: str, folder: Path, contract: RobotContract, inputs: tuple[str, ...] | None = None) -> Path:
    """Save one of `POLICIES`; its instruction is the contract's default, and its seed is always the same."""
    architecture, options = POLICIES[name]
    inputs = inputs or ((*INPUTS, GOAL_IMAGE) if name in GOAL_POLICIES else INPUTS)
    features = {key: contract.feature(key) for key in inputs}
    statistics = {
        "observation.state": {"mean": np.array([0.0, 0.6, 0.2, 0.5]), "std": np.array([0.1, 0.1, 0.1, 0.5])},
        "action": {"min": np.array([-0.01, -0.01, -0.01, -1.0]), "max": np.array([0.01, 0.01, 0.01, 1.0])},
    }
    processors = Processors(features, contract.features["action"], ProcessorOptions(), statistics)
    torch.manual_seed(list(POLICIES).index(name))
    common = {"inputs": processors.policy_inputs, "action": processors.action, "action_horizon": HORIZON}
    policy = build_policy(architecture, {**common, **options})
    for parameter in policy.parameters():
        if parameter.ndim > 1:  # as they are first, some architectures' weights let hardly anything of an image through
            torch.nn.init.kaiming_normal_(parameter)
    processors.use_text(policy.config.text)
    if processors.text is not None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(text_models.MODELS, "sentence_embedding", _FixedEmbedding)
            processors.text([contract.instruction.default])
    return save_checkpoint(folder / name, policy, processors, contract)
