"""A policy that plans with a world model: remembers by the RSSM, imagines candidates, acts on the best.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim.
"""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_ros.data_types import ObservationError
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.policies.parts import Part
from vla_ros.world_models.config import WorldModelConfig
from vla_ros.world_models.model import Sequences, WorldModel
from vla_ros.world_models.planners import CrossEntropyMethod, RandomShooting, shifted
from vla_ros.world_models.rssm import Latent

REWARD, IS_LAST = "reward", "is_last"
"""Keys of a training batch beside those of other policies: float [B, T] and bool [B, T]."""


class WorldModelPolicy(Policy):
    """Plans from the present state, at every observation anew."""

    name: ClassVar[str] = "world_model"
    config_class: ClassVar[type[PolicyConfig]] = WorldModelConfig
    part_of_child: ClassVar[Mapping[str, Part]] = {
        "image_encoders": "vision",
        "image_decoders": "vision",
        "rssm": "expert",
    }
    config: WorldModelConfig

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__(config)
        self.model = WorldModel(config)
        self.planner: CrossEntropyMethod | RandomShooting = RandomShooting(config.samples)
        if config.planner == "cem":
            self.planner = CrossEntropyMethod(config.samples, config.elites, config.iterations, min_std=config.min_std)

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Return the world model's loss over the frames of the batch, of any number T.

        Args:
            batch: Frames, ``past_action`` and ``is_pad``; ``reward`` and ``is_last``, where they are known.
            generator: Source of chance.
        """
        loss, terms = self.model.loss(self.sequences(batch), generator)
        return LossOutput(loss, terms)

    def sequences(self, batch: Batch) -> Sequences:
        """Return a training batch as the model takes it.

        Raises:
            ObservationError: The actions between the frames are missing.
        """
        inputs = {key: batch[key] for key in self.config.inputs}
        first = next(iter(inputs.values()))
        size, steps = first.shape[:2]
        past_BTA = batch.get("past_action", first.new_zeros(size, 0, self.config.action_dim))
        if past_BTA.shape[:2] != (size, steps - 1):
            raise ObservationError(
                f"Policy {self.name}: 'past_action' must be [B={size}, T-1={steps - 1}, A], got {list(past_BTA.shape)}."
            )
        is_pad_BT = batch.get("is_pad", torch.zeros(size, steps, dtype=torch.bool, device=first.device)).bool()
        began_BT = torch.cat([torch.ones_like(is_pad_BT[:, :1]), is_pad_BT[:, :-1]], dim=1)
        action_BTA = torch.cat([past_BTA.new_zeros(size, 1, past_BTA.shape[-1]), past_BTA], dim=1)
        # nothing of padding may enter: the first frame that is there begins an episode
        clean = {
            key: values.masked_fill(is_pad_BT.view(size, steps, *[1] * (values.ndim - 2)), 0.0)
            for key, values in inputs.items()
        }
        is_first_BT = is_pad_BT | began_BT
        action_BTA = action_BTA.masked_fill(is_first_BT[..., None], 0.0)
        return Sequences(clean, action_BTA, is_first_BT, is_pad_BT, batch.get(REWARD), batch.get(IS_LAST))

    @torch.no_grad()
    def predict_action_chunk(
        self, observation: Batch, state: PolicyState | None = None, generator: torch.Generator | None = None
    ) -> PolicyOutput:
        """Plan as `Policy.predict_action_chunk`.

        The state holds what the model remembers and the plan; frames that are new to it are taken up with the plan's
        actions, which the robot carried out meanwhile. Without a state the newest frame begins an episode.
        """
        self.check_observation(observation)
        first = next(observation[key] for key in self.config.inputs)
        size, steps = first.shape[:2]
        latent, plan_BHA, taken_B = self._remembered(state, size, first.device)
        for step in range(steps):
            is_new_B = _is_new(observation, step, steps, first.device, size)
            if state is None and step + 1 < steps:
                continue
            if not bool(is_new_B.any()):
                continue
            embedding_BE = self.model.embed({key: observation[key][:, step] for key in self.config.inputs})
            is_first_B = torch.full((size,), state is None, device=first.device)
            action_BA = plan_BHA[torch.arange(size, device=first.device), taken_B.clamp(max=plan_BHA.shape[1] - 1)]
            seen, _, _ = self.model.rssm.observe_step(latent, action_BA, embedding_BE, is_first_B, sample=False)
            latent = seen.where(is_new_B, latent)
            taken_B = taken_B + is_new_B.long()
        guess_BHA = torch.stack([shifted(plan_BHA[row : row + 1], int(taken_B[row]))[0] for row in range(size)])
        if state is None:
            guess_BHA = torch.zeros_like(plan_BHA)
        plan_BHA = self.planner.plan(
            lambda candidates_BNHA: self.model.returns(latent, candidates_BNHA, self.config.discount, generator),
            guess_BHA,
            generator,
        )
        return PolicyOutput(plan_BHA, {"h": latent.h_BD, "z": latent.z_BZ, "plan": plan_BHA})

    def _remembered(self, state: PolicyState | None, size: int, device: torch.device) -> tuple[Latent, Tensor, Tensor]:
        """Return the latent state, the plan made last, and how much of it was done."""
        taken_B = torch.zeros(size, dtype=torch.long, device=device)
        if state is not None:
            return Latent(state["h"], state["z"]), state["plan"], taken_B
        config = self.config
        plan_BHA = torch.zeros(size, config.action_horizon, config.action_dim, device=device)
        return self.model.rssm.initial(size, device), plan_BHA, taken_B


def _is_new(observation: Batch, step: int, steps: int, device: torch.device, size: int) -> Tensor:
    """Return for which samples a frame has not made the state yet, bool [B]."""
    known: Any = observation.get("is_known")
    is_new_B = torch.full((size,), step + 1 == steps, device=device) if known is None else ~known[:, step].bool()
    padded = observation.get("is_pad")
    return is_new_B if padded is None or step + 1 == steps else is_new_B & ~padded[:, step].bool()
