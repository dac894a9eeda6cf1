"""A policy in a process of its own: equal to the one in a thread, and replaced when it hangs or dies."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.checkpoint import load_checkpoint
from vla_ros.contract import load_contract
from vla_ros.data_types import CheckpointError, Frame, tick_ns
from vla_ros.runtime import PolicyRunner, TorchPredictor
from vla_ros.runtime.loading import load_policy
from vla_ros.runtime.process_predictor import InferenceError, ProcessPredictor

sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
from tiny_policies import save_tiny_policy

pytestmark = pytest.mark.slow

CONTRACT = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
VALUES = {"device": "cpu", "contract": "", "seed": 0, "warm_up_runs": 1, "instruction": "", "torch_threads": 1}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy("bc_gru", tmp_path_factory.mktemp("process"), CONTRACT)


@pytest.fixture(scope="module")
def predictor(checkpoint: Path) -> Iterator[ProcessPredictor]:
    values = {**VALUES, "checkpoint": str(checkpoint), "inference": "process", "max_inference_s": 5.0}
    loaded = load_policy(values, load_checkpoint, CONTRACT)
    assert isinstance(loaded.predictor, ProcessPredictor)
    yield loaded.predictor
    process = loaded.predictor.process_id
    loaded.predictor.close()
    assert process is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def frame(keys: tuple[str, ...], index: int) -> Frame:
    rng = np.random.default_rng(index)
    values: dict[str, Any] = {}
    for key in keys:
        spec = CONTRACT.feature(key)
        noise = rng.integers(0, 256, spec.shape) if spec.kind == "image" else rng.normal(size=spec.shape)
        values[key] = noise.astype(spec.dtype)
    return Frame(tick_ns(index, CONTRACT.fps), values, CONTRACT.instruction.default)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def answers(runner: PolicyRunner) -> bool:
    try:
        runner.predict()
    except InferenceError:
        return False
    return True


def test_it_predicts_what_a_thread_does_over_episodes(predictor: ProcessPredictor, checkpoint: Path) -> None:
    here = PolicyRunner(TorchPredictor(load_checkpoint(checkpoint), seed=0), CONTRACT.fps)
    there = PolicyRunner(predictor, CONTRACT.fps)
    assert here.predictor.spec == there.predictor.spec
    for episode in range(2):
        here.reset()
        there.reset()
        for index in range(3):
            chunks = []
            for runner in (here, there):
                runner.observe(frame(predictor.spec.input_keys, 10 * episode + index))
                chunks.append(runner.predict())
            np.testing.assert_allclose(chunks[0].actions_HA, chunks[1].actions_HA, rtol=0.0, atol=1e-6)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_that_dies_or_hangs_is_replaced(predictor: ProcessPredictor, how: signal.Signals) -> None:
    runner = PolicyRunner(predictor, CONTRACT.fps)
    runner.observe(frame(predictor.spec.input_keys, 0))
    before = runner.predict()
    process = predictor.process_id
    assert process is not None
    os.kill(process, how)
    expected = "signal 9" if how is signal.SIGKILL else "did not answer within 5 s"
    with pytest.raises(InferenceError, match=rf"{expected}.*; it is being replaced\."):
        runner.predict()
    with pytest.raises(InferenceError, match="is being replaced"):
        runner.predict()
    wait(lambda: answers(runner))
    assert predictor.process_id not in (None, process)
    runner.reset()
    runner.observe(frame(predictor.spec.input_keys, 0))
    np.testing.assert_allclose(runner.predict().actions_HA, before.actions_HA, rtol=0.0, atol=1e-6)


def test_what_is_wrong_with_a_checkpoint_is_said_by_the_process(tmp_path: Path) -> None:
    values = {**VALUES, "checkpoint": str(tmp_path / "absent"), "inference": "process", "max_inference_s": 5.0}
    with pytest.raises(CheckpointError, match="no such checkpoint folder"):
        load_policy(values, load_checkpoint, CONTRACT)
