"""The policy that the benchmark hosts: ResNet-18 on every image, with random weights. No ROS.

A real policy's weights would cost the same and have to be found first. What it computes means nothing.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, F features, N images, C channels, h, w pixels.
"""

import time
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vla_ros.checkpoint import Checkpoint
from vla_ros.contract import load_contract
from vla_ros.networks import ImageEncoder
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.processors import ProcessorOptions, Processors

Work = Literal["none", "once", "saturate"]
WORKS: tuple[Work, ...] = ("none", "once", "saturate")
ACTION_HORIZON = 40  # 2 s at 20 Hz: a late prediction must not end the commands, which are what is counted
IMAGE_SIZE = (224, 224)  # what the encoder is told; it takes every size
SATURATE_S = 0.08  # longer than an observation's period, so that the next one always waits already


class BenchPolicy(Policy):
    """ResNet-18 on images, a mean over everything else, a linear head."""

    name: ClassVar[str] = "bench"
    config_class: ClassVar[type[PolicyConfig]] = PolicyConfig

    def __init__(self, config: PolicyConfig, work: Work = "once") -> None:
        """Build it.

        Args:
            config: Inputs and sizes.
            work: ``none``: predict zeros at once. ``once``: one forward pass. ``saturate``: forward passes for
                `SATURATE_S`, whatever the machine.
        """
        super().__init__(config)
        self.work = work
        self.encoder = ImageEncoder("resnet18", "average", IMAGE_SIZE)
        width = 512 * len(config.image_keys) + len(config.inputs)
        self.head = nn.Linear(width, config.action_horizon * config.action_dim)

    def forward(self, observation: Batch) -> Tensor:
        """Return actions, float32 [B, H, A]."""
        parts_BF = []  # noqa: N806 (axis legend)
        for key, spec in self.config.inputs.items():
            value = observation[key]
            if spec.kind == "image":
                parts_BF.append(self.encoder(value.flatten(0, 1)).reshape(len(value), -1))
            parts_BF.append(torch.nanmean(value.flatten(1), dim=1, keepdim=True))
        actions_BHA: Tensor = self.head(torch.cat(parts_BF, dim=1)).tanh()  # noqa: N806
        return actions_BHA.view(-1, self.config.action_horizon, self.config.action_dim)

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Refuse: nothing can be learnt here."""
        raise NotImplementedError("the benchmark's policy is not trained")

    @torch.no_grad()
    def predict_action_chunk(
        self,
        observation: Batch,
        state: PolicyState | None = None,  # noqa: ARG002 (nothing is remembered)
        generator: torch.Generator | None = None,  # noqa: ARG002 (nothing is sampled)
    ) -> PolicyOutput:
        """Predict as `Policy.predict_action_chunk`, after the work that was asked for."""
        if self.work == "none":
            batch = len(next(iter(observation.values())))
            return PolicyOutput(torch.zeros(batch, self.config.action_horizon, self.config.action_dim))
        until_s = time.monotonic() + (SATURATE_S if self.work == "saturate" else 0.0)
        actions_BHA = self(observation)  # noqa: N806
        while time.monotonic() < until_s:
            actions_BHA = self(observation)  # noqa: N806
        return PolicyOutput(actions_BHA)


def make_checkpoint(contract_file: str, work: Work, device: str = "cpu") -> Checkpoint:
    """Return a checkpoint of the policy that takes every input of a contract.

    Args:
        contract_file: The robot.
        work: See `BenchPolicy`.
        device: Of the weights.
    """
    torch.manual_seed(0)
    contract = load_contract(contract_file)
    features = contract.features
    inputs = {key: spec for key, spec in features.items() if key != contract.action.key}
    action = features[contract.action.key]
    config = PolicyConfig(inputs=inputs, action=action, action_horizon=ACTION_HORIZON)
    policy = BenchPolicy(config, work).eval().to(device)
    statistics = {}
    for key, spec in features.items():
        one = np.ones(spec.shape[-1:])
        statistics[key] = {"min": -one, "max": one, "mean": 0.0 * one, "std": one}
    processors = Processors(inputs, action, ProcessorOptions(), statistics).to(device)
    return Checkpoint(Path(contract_file), policy, processors, contract, {})


def work_named(name: str) -> Work:
    """Return the work of this name.

    Raises:
        ValueError: There is none.
    """
    if name not in WORKS:
        raise ValueError(f"work '{name}' is not one of {', '.join(WORKS)}")
    return name
