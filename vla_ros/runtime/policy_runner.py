"""A checkpoint in time: frames in, action chunks out. Holds what belongs to an episode; knows no clock and no ROS."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from vla_ros.checkpoint import Checkpoint
from vla_ros.data_types import NANOSECONDS, ActionChunk, Frame
from vla_ros.policies.base import PolicyState
from vla_ros.runtime.observation_history import ObservationHistory


class PolicyRunner:
    """Runs a checkpoint's policy over the ticks of one robot, one episode after another.

    Not thread-safe: one thread owns it.

    Args:
        checkpoint: Policy, processors and the contract they were trained under.
        seed: Source of sampling noise for policies that draw it; every episode starts from it, so that its actions do
            not depend on the episodes before. None draws fresh noise.
        first_chunk_id: Number of the first prediction; a node that changes its policy counts on.

    Attributes:
        input_keys: Features that the policy takes.
        optional_keys: Those of them that a frame may lack.
        next_chunk_id: Number that the next prediction gets.
    """

    def __init__(self, checkpoint: Checkpoint, seed: int | None = None, first_chunk_id: int = 1) -> None:
        self._policy = checkpoint.policy.eval()
        self._processors = checkpoint.processors
        config = self._policy.config
        self.input_keys: tuple[str, ...] = tuple(config.inputs)
        self._fps = checkpoint.contract.fps
        self.optional_keys: tuple[str, ...] = config.optional_inputs
        needed = [key for key in self.input_keys if key not in self.optional_keys]
        self._history = ObservationHistory(config.n_obs_steps, self._fps, needed, self.optional_keys)
        self._state: PolicyState | None = None
        self._device = next((p.device for p in self._policy.parameters()), torch.device("cpu"))
        self._seed = seed
        self._generator = torch.Generator(self._device)
        self.next_chunk_id = first_chunk_id
        self.reset()

    def reset(self) -> None:
        """Begin an episode: forget frames and policy state. The count of predictions goes on."""
        self._history.clear()
        self._state, self._n_new = None, 0
        if self._seed is None:
            self._generator.seed()
        else:
            self._generator.manual_seed(self._seed)

    def observe(self, frame: Frame) -> None:
        """Take in the frame of the next tick; see `ObservationHistory.push` for what a gap does.

        Raises:
            ObservationError: The frame lacks inputs of the policy.
            ValueError: The frame is not later than the last one.
        """
        self._history.push(frame)
        self._n_new += 1

    def predict(self) -> ActionChunk:
        """Decide on the frames observed so far.

        Returns:
            Actions in the contract's units; step 0 is due at the newest frame's stamp. ``inference_ns`` is 0: the
            caller has the clock.

        Raises:
            ObservationError: Nothing was observed, or shapes differ from those trained on.
        """
        observation = self._history.observation()
        raw: dict[str, Any] = {key: value[None] for key, value in observation.values.items()}
        raw["task"] = [observation.instruction]
        raw["is_pad"] = observation.is_pad[None]
        # a tick may pass without a prediction; a memory that did not hear of it would fall behind
        raw["is_known"] = np.arange(len(observation.is_pad))[None] < len(observation.is_pad) - self._n_new
        with torch.inference_mode():
            batch = self._to_device(self._processors.observation(raw))
            output = self._policy.predict_action_chunk(batch, self._state, self._generator)
            actions_BHA = self._processors.actions(output.actions.float()).cpu()
        self._state, self._n_new = output.state, 0
        chunk = ActionChunk(
            actions_HA=np.array(actions_BHA[0].numpy(), dtype=np.float64),
            observation_stamp_ns=observation.stamp_ns,
            period_ns=NANOSECONDS // self._fps,
            chunk_id=self.next_chunk_id,
        )
        self.next_chunk_id += 1
        return chunk

    def warm_up(self, frame: Frame, runs: int = 3) -> None:
        """Predict a few times on one frame, so that the first true prediction is not several times slower.

        Leaves no trace: the episode begins anew and the count of predictions does not move.
        """
        first = self.next_chunk_id
        for _ in range(runs):
            self.reset()
            self.observe(frame)
            self.predict()
        self.next_chunk_id = first
        self.reset()

    def _to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v.to(self._device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
