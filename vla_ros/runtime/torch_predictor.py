"""A checkpoint's policy and processors as a predictor, in this process. Holds the policy's state of one episode."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.checkpoint import Checkpoint
from vla_ros.data_types import Observation
from vla_ros.policies.base import PolicyState
from vla_ros.runtime.predictor import PredictorSpec


class TorchPredictor:
    """Runs a checkpoint with torch.

    Args:
        checkpoint: Policy and processors, on the device that predicts.
        seed: Source of sampling noise for policies that draw it; every episode starts from it, so that its actions do
            not depend on the episodes before. None draws fresh noise.

    Attributes:
        spec: What the policy takes and gives.
    """

    def __init__(self, checkpoint: Checkpoint, seed: int | None = None) -> None:
        self._policy = checkpoint.policy.eval()
        self._processors = checkpoint.processors
        config = self._policy.config
        self.spec = PredictorSpec(
            tuple(self._processors.inputs),  # of a policy of several robots, this one's
            tuple(key for key in config.optional_inputs if key in self._processors.inputs),
            config.n_obs_steps,
            config.action_horizon,
            config.n_action_steps,
        )
        self._device = next((p.device for p in self._policy.parameters()), torch.device("cpu"))
        self._seed = seed
        self._generator = torch.Generator(self._device)
        self._state: PolicyState | None = None
        self.begin_episode()

    def begin_episode(self) -> None:
        """Forget the policy's state, and start the noise of this episode from the seed."""
        self._state = None
        if self._seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(self._seed)

    @property
    def instructions(self) -> tuple[str, ...] | None:
        """Instructions that are embedded already; None when the policy reads none."""
        text = self._processors.text
        return None if text is None else text.instructions

    def is_prepared(self, instruction: str) -> bool:
        """Whether the instruction is embedded already, or the policy reads none."""
        known = self.instructions
        return known is None or instruction in known

    def prepare(self, instruction: str) -> None:
        """Tokenise or embed an instruction; see `Predictor.prepare`.

        Raises:
            ConfigError: A package or a language model that it needs is not installed.
        """
        if self._processors.text is not None:
            self._processors.text([instruction], self._device)

    def predict(self, observation: Observation, is_known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Decide on an observation; see `Predictor.predict`.

        Raises:
            ObservationError: Keys or shapes differ from those trained on.
            ConfigError: The instruction needs a language model that is not there.
        """
        raw: dict[str, Any] = {key: value[None] for key, value in observation.values.items()}
        raw["task"] = [observation.instruction]
        raw["is_pad"], raw["is_known"] = observation.is_pad[None], is_known[None]
        with torch.inference_mode():
            batch = self._to_device(self._processors.observation(raw))
            output = self._policy.predict_action_chunk(batch, self._state, self._generator)
            actions_BHA = self._processors.actions(output.actions.float(), raw).cpu()
        self._state = output.state
        return np.array(actions_BHA[0].numpy(), dtype=np.float64)

    def close(self) -> None:
        """Nothing to release: the memory goes with the object."""

    def _to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v.to(self._device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
