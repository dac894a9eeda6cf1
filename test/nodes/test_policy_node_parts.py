"""The policy node's control and inference threads, each alone under a clock that the test holds."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")

from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import ActionChunk, Command, Frame, tick_ns
from vla_ros.ros_io import MissingInput
from vla_ros.ros_io.observation_pipeline import Assembled
from vla_ros.runtime import ChunkExecutor
from vla_ros.runtime.control_loop import CommandSink, ControlLoop, ControlState
from vla_ros.runtime.inference_worker import InferenceWorker, TickResult
from vla_ros.safety import SafetyFilter

SAWYER = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
PERIOD = 50_000_000
KEY = "observation.state"


def frame(index: int) -> Frame:
    return Frame(tick_ns(index, 20), {KEY: np.array([0.0, 0.6, 0.2, 0.0], np.float32)})


def chunk(tick: int, chunk_id: int = 1, horizon: int = 4, dx: float = 0.005) -> ActionChunk:
    return ActionChunk(np.tile([dx, 0.0, 0.0, 1.0], (horizon, 1)), tick * PERIOD, PERIOD, chunk_id)


class Loop:
    """A control loop without its thread: ticks are called, what it publishes is kept."""

    def __init__(self, contract: RobotContract = SAWYER) -> None:
        self.enabled = True
        self.stale: tuple[MissingInput, ...] = ()
        self.result: TickResult | None = TickResult(0, frame(0), None, ())
        self.commands: list[Command] = []
        self.chunks: list[ActionChunk] = []
        self.executor = ChunkExecutor(contract.action, contract.fps)
        self.safety = SafetyFilter(contract)
        clock: Any = None
        sink = CommandSink(self.commands.append, self.chunks.append, lambda: self.enabled)
        self.loop = ControlLoop(
            contract,
            self.executor,
            self.safety,
            clock,
            sink,
            stale_inputs=lambda _: self.stale,
            newest_result=lambda: self.result,
            lock_step=False,
        )

    def tick(self, index: int) -> ControlState:
        self.loop._tick(index * PERIOD)
        return self.loop.status.state

    def run(self, first: int, ticks: int) -> list[float]:
        """The x displacements commanded over some ticks."""
        before = len(self.commands)
        for index in range(first, first + ticks):
            self.tick(index)
        return [float(command.action[0]) for command in self.commands[before:]]


def missing(on_missing: str) -> tuple[MissingInput, ...]:
    return (MissingInput("observation.images.front", "/camera", 0.3, 0.2, "stale", on_missing),)


def test_it_commands_the_step_that_is_due() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    assert subject.tick(2) is ControlState.RUNNING
    assert (subject.commands[0].chunk_index, subject.commands[0].effect_ns) == (2, 2 * PERIOD)


def test_stop_means_one_zero_command_and_then_silence() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    assert subject.run(0, 2) == [0.005, 0.005]
    subject.stale = missing("stop")
    assert subject.run(2, 5) == [0.0]
    assert subject.commands[-1].action[3] == 1.0  # the gripper keeps what it was told
    assert subject.loop.status.state is ControlState.STOPPED
    assert "'observation.images.front'" in subject.loop.status.message


def test_hold_means_zero_commands_at_the_rate() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 2)
    subject.stale = missing("hold")
    assert subject.run(2, 3) == [0.0, 0.0, 0.0]
    assert subject.loop.status.state is ControlState.HOLDING


def test_abort_stops_and_asks_to_be_deactivated() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 1)
    subject.stale = missing("abort")
    assert subject.run(1, 3) == [0.0]
    assert subject.loop.must_abort


def test_the_gravest_of_several_missing_inputs_decides() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 1)
    subject.stale = missing("hold") + missing("stop")
    assert subject.run(1, 3) == [0.0]


def test_what_was_decided_before_an_input_went_does_not_resume() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=20))
    subject.run(0, 2)
    subject.stale = missing("stop")
    subject.run(2, 1)
    subject.stale = ()
    assert subject.run(3, 2) == []
    assert subject.loop.status.state is ControlState.WAITING
    subject.executor.submit(chunk(4, chunk_id=2))
    assert subject.run(5, 1) == [0.005]


def test_a_used_up_chunk_becomes_zero_motion_and_the_status_says_why() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=2))
    assert subject.run(0, 4) == [0.005, 0.005, 0.0, 0.0]
    assert "too slow" in subject.loop.status.message


def test_a_dropped_command_is_a_stop() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 1)
    subject.executor.submit(chunk(1, 2, dx=float("nan")))
    assert subject.run(1, 3) == [0.0]
    assert "not_finite" in subject.loop.status.message
    assert subject.loop.interventions == 3


def test_a_dry_run_publishes_nothing_and_switching_to_it_stops_the_robot() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0, horizon=20))
    subject.enabled = False
    assert subject.run(0, 3) == []
    assert subject.chunks == []
    subject.enabled = True
    assert subject.run(3, 1) == [0.005]
    subject.enabled = False
    assert subject.run(4, 3) == [0.0]
    assert subject.loop.status.state is ControlState.RUNNING


def test_a_chunk_is_published_once_and_voided_when_the_robot_must_stop() -> None:
    subject = Loop()
    subject.executor.submit(chunk(0))
    subject.run(0, 3)
    assert [c.chunk_id for c in subject.chunks] == [1]
    subject.safety.latch_stop()
    subject.run(3, 2)
    assert [c.chunk_id for c in subject.chunks] == [1, 0]
    assert subject.chunks[-1].actions_HA[0, 0] == 0.0


def test_before_the_first_command_a_silent_input_is_waited_for() -> None:
    subject = Loop()
    subject.stale = missing("stop")
    assert subject.tick(0) is ControlState.WAITING
    assert subject.commands == []


class FakeClock:
    is_simulated = True

    def __init__(self, now_ns: int) -> None:
        self.time_ns = now_ns

    def now_ns(self) -> int:
        return self.time_ns


class FakePipeline:
    """Complete up to a tick; a frame at every tick but the missing ones."""

    def __init__(self) -> None:
        self.newest, self.missing, self.assembled = -1, set[int](), list[int]()

    def complete(self, stamp_ns: int, now_ns: int) -> bool:
        return stamp_ns <= tick_ns(self.newest, 20)

    def assemble(self, stamp_ns: int, instruction: str = "") -> Assembled:
        index = stamp_ns // PERIOD
        self.assembled.append(index)
        return Assembled(None, missing("stop")) if index in self.missing else Assembled(frame(index), ())


class FakeRunner:
    """Notes what it is told; its predictions wait for `gate`."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.next_chunk_id, self._newest = 1, -1

    def reset(self) -> None:
        self.log.append("reset")

    def observe(self, seen: Frame) -> None:
        self._newest = seen.stamp_ns // PERIOD
        self.log.append(f"observe {self._newest}")

    def predict(self) -> ActionChunk:
        self.log.append("predict")
        assert self.gate.wait(10)
        self.next_chunk_id += 1
        return chunk(self._newest, self.next_chunk_id - 1)


class Worker:
    def __init__(self, n_obs_steps: int = 1, *, follows_episodes: bool = False) -> None:
        self.clock, self.pipeline, self.runner = FakeClock(10 * PERIOD), FakePipeline(), FakeRunner()
        self.executor = ChunkExecutor(SAWYER.action, 20)
        self.results: list[TickResult] = []
        parts: Any = (self.runner, self.pipeline, self.executor, self.clock)
        self.worker = InferenceWorker(
            *parts,
            fps=20,
            n_obs_steps=n_obs_steps,
            max_wait_s=0.04,
            follows_episodes=follows_episodes,
            on_result=self.results.append,
        )

    def __enter__(self) -> "Worker":
        self.worker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.gate.set()
        self.worker.stop()

    def reach(self, index: int) -> None:
        self.clock.time_ns = tick_ns(index, 20)
        self.pipeline.newest = index
        self.worker.notify()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def wait_for_result(self, index: int) -> TickResult:
        self.wait(lambda: bool(self.results) and self.results[-1].stamp_ns == tick_ns(index, 20))
        return self.results[-1]


def test_after_a_slow_prediction_the_newest_tick_is_next_and_history_stays_consecutive() -> None:
    with Worker(n_obs_steps=3) as subject:
        subject.reach(10)
        subject.wait_for_result(10)
        subject.reach(16)
        subject.wait_for_result(16)
        assert subject.pipeline.assembled == [10, 14, 15, 16]


def test_a_missing_input_is_told_and_not_predicted_on() -> None:
    with Worker() as subject:
        subject.pipeline.missing = {10}
        subject.reach(10)
        result = subject.wait_for_result(10)
        assert (result.frame, result.chunk) == (None, None)
        assert result.missing[0].topic == "/camera"
        assert "predict" not in subject.runner.log


def test_a_restart_drops_the_prediction_under_way_and_decides_on_its_tick_anew() -> None:
    with Worker() as subject:
        subject.runner.gate.clear()
        subject.reach(10)
        subject.wait(lambda: "predict" in subject.runner.log)
        subject.worker.restart()
        subject.runner.gate.set()
        result = subject.wait_for_result(10)
        assert len(subject.results) == 1
        assert subject.runner.log == ["reset", "observe 10", "predict", "reset", "observe 10", "predict"]
        assert subject.executor.newest is result.chunk


def test_a_tick_waits_until_it_is_known_to_which_episode_it_belongs() -> None:
    with Worker(follows_episodes=True) as subject:
        subject.worker.episode_at(tick_ns(9, 20))
        subject.reach(10)
        assert subject.worker._newest_complete_tick() is None
        subject.worker.restart(tick_ns(10, 20))  # a new episode begins with this tick
        subject.worker.episode_at(tick_ns(10, 20))
        subject.wait_for_result(10)
        assert subject.runner.log[-3:] == ["reset", "observe 10", "predict"]


def test_an_episode_just_begun_may_still_be_silent() -> None:
    with Worker() as subject:
        silent = replace(missing("stop")[0], reason="silent", age_s=float("inf"))
        subject.pipeline.assemble = lambda *_: Assembled(None, (silent,))  # type: ignore[method-assign]
        subject.worker.restart(tick_ns(10, 20))
        subject.reach(11)
        assert subject.wait_for_result(11).missing == ()
        subject.reach(15)
        assert subject.wait_for_result(15).missing == (silent,)


def test_ticks_before_an_episode_are_skipped() -> None:
    with Worker() as subject:
        subject.worker.restart(tick_ns(12, 20))
        subject.reach(11)
        subject.wait(lambda: (subject.worker._next or 0) > 11)
        subject.reach(12)
        subject.wait_for_result(12)
        assert subject.pipeline.assembled == [12]


def test_after_time_went_back_ticks_count_from_the_present() -> None:
    with Worker() as subject:
        subject.reach(100)
        subject.wait_for_result(100)
        subject.clock.time_ns, subject.pipeline.newest = tick_ns(5, 20), 4
        subject.worker.restart(clock_went_back=True)
        subject.reach(5)
        subject.wait_for_result(5)


def test_a_policy_that_fails_is_a_fault_with_its_cause() -> None:
    with Worker() as subject:
        subject.runner.predict = lambda: 1 / 0  # type: ignore[assignment, return-value]
        subject.reach(10)
        subject.wait(lambda: "ZeroDivisionError" in subject.worker.fault)
        assert subject.executor.newest is None


def test_an_exchanged_policy_counts_on_and_the_old_chunks_serve_until_then() -> None:
    with Worker() as subject:
        subject.reach(10)
        subject.wait_for_result(10)
        other: Any = FakeRunner()
        subject.worker.exchange(other, 1)
        assert subject.executor.newest is not None
        subject.reach(11)
        result = subject.wait_for_result(11)
        assert result.chunk is not None
        assert result.chunk.chunk_id == 2


def test_a_chunk_carries_how_long_it_took() -> None:
    with Worker() as subject:
        subject.reach(10)
        result = subject.wait_for_result(10)
        assert result.chunk is not None
        assert result.chunk.inference_ns > 0
        assert replace(result.chunk, inference_ns=0).observation_stamp_ns == tick_ns(10, 20)
