"""The runner holds what belongs to an episode: frames, policy state, noise."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vla_ros.contract import load_contract
from vla_ros.data_types import Frame, tick_ns
from vla_ros.policies.base import Batch, LossOutput, Policy, PolicyConfig, PolicyOutput, PolicyState
from vla_ros.runtime import PolicyRunner, TorchPredictor
from vla_ros.runtime.loading import warm_up

CONTRACT = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
KEY = "observation.state"


class Counting(Policy):
    """Answers the step of its recurrent state, the newest input and a random number."""

    name = "counting"
    config_class = PolicyConfig

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        raise NotImplementedError

    def predict_action_chunk(
        self, observation: Batch, state: PolicyState | None = None, generator: torch.Generator | None = None
    ) -> PolicyOutput:
        step = torch.zeros(1) if state is None else state["step"] + 1
        noise = torch.rand(1, generator=generator)
        row = torch.stack(
            [step[0], observation[KEY][0, -1, 0], noise[0], torch.tensor(float(observation["is_pad"].sum()))]
        )
        return PolicyOutput(row.expand(1, 3, 4), {"step": step})


class Recording(Counting):
    """Keeps what it was told of each frame."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__(config)
        self.known: list[list[bool]] = []

    def predict_action_chunk(
        self, observation: Batch, state: PolicyState | None = None, generator: torch.Generator | None = None
    ) -> PolicyOutput:
        self.known.append(observation["is_known"][0].tolist())
        return super().predict_action_chunk(observation, state, generator)


class Plain:
    """Processors that double actions and change nothing else."""

    inputs = (KEY,)

    def observation(self, raw: dict[str, Any]) -> dict[str, Any]:
        return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in raw.items()}

    def actions(self, actions_BHA: torch.Tensor, raw: dict[str, Any]) -> torch.Tensor:
        return actions_BHA * 2


def runner(seed: int | None = 0, policy: type[Counting] = Counting, n_obs_steps: int = 2) -> PolicyRunner:
    config = PolicyConfig(
        inputs={KEY: CONTRACT.feature(KEY)},
        action=CONTRACT.feature("action"),
        n_obs_steps=n_obs_steps,
        action_horizon=3,
    )
    checkpoint: Any = SimpleNamespace(policy=policy(config), processors=Plain(), contract=CONTRACT)
    return PolicyRunner(TorchPredictor(checkpoint, seed), CONTRACT.fps)


def frame(index: int) -> Frame:
    return Frame(tick_ns(index, CONTRACT.fps), {KEY: np.full(4, index, np.float32)}, "go")


def test_a_chunk_begins_at_its_observation_and_is_denormalised() -> None:
    subject = runner()
    subject.observe(frame(5))
    chunk = subject.predict()
    assert (chunk.observation_stamp_ns, chunk.period_ns, chunk.chunk_id) == (tick_ns(5, 20), 50_000_000, 1)
    assert chunk.actions_HA.shape == (3, 4)
    assert chunk.actions_HA.dtype == np.float64
    assert chunk.actions_HA[0, 1] == 10  # twice the input


def test_policy_state_is_carried_within_an_episode_and_dropped_by_reset() -> None:
    subject = runner()
    steps = []
    for index in range(4):
        if index == 2:
            subject.reset()
        subject.observe(frame(index))
        steps.append(subject.predict().actions_HA[0, 0] / 2)
    assert steps == [0, 1, 0, 1]


def test_the_count_of_chunks_goes_on_over_episodes() -> None:
    subject = runner()
    ids = []
    for index in range(3):
        subject.reset()
        subject.observe(frame(index))
        ids.append(subject.predict().chunk_id)
    assert ids == [1, 2, 3]


def test_with_a_seed_every_episode_draws_the_same_noise() -> None:
    subject = runner(seed=3)
    noise = []
    for _ in range(2):
        subject.reset()
        subject.observe(frame(0))
        noise.append(subject.predict().actions_HA[0, 2])
    assert noise[0] == noise[1]


def test_warming_up_leaves_no_trace() -> None:
    warm, cold = runner(), runner()
    warm_up(warm.predictor, CONTRACT, frame(9), runs=3)
    chunks = []
    for subject in (warm, cold):
        subject.observe(frame(1))
        chunks.append(subject.predict())
    assert chunks[0].chunk_id == chunks[1].chunk_id == 1
    np.testing.assert_array_equal(chunks[0].actions_HA, chunks[1].actions_HA)


@pytest.mark.parametrize("n_frames", [1, 2])
def test_padding_is_told_to_the_policy(n_frames: int) -> None:
    subject = runner()
    for index in range(n_frames):
        subject.observe(frame(index))
    assert subject.predict().actions_HA[0, 3] / 2 == 2 - n_frames


def test_the_policy_is_told_which_frames_its_state_was_made_with() -> None:
    subject = runner(policy=Recording, n_obs_steps=3)
    predictor: Any = subject.predictor
    policy = predictor._policy
    for frames in ([0], [1], [2, 3], [], [4, 5, 6, 7]):
        for index in frames:
            subject.observe(frame(index))
        subject.predict()
    subject.reset()
    subject.observe(frame(9))
    subject.predict()
    one = [True, True, False]
    assert policy.known == [one, one, [True, False, False], [True] * 3, [False] * 3, one]
