"""The runtime's threads and reset rules, under a clock and a predictor that the test holds."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import ConfigError, ContractError, Observation, UserError, tick_ns
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.messages.samples import make_example_message
from vla_ros.runtime import (
    ControlOutput,
    ControlState,
    ManualClock,
    PolicyRuntime,
    PredictorSpec,
    RuntimeOptions,
    RuntimeThreads,
)
from vla_ros.schema import load_yaml

FILE = Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml"
POSE, TEXT = "geometry_msgs/msg/PoseStamped", "std_msgs/msg/String"
KEY = "observation.pose"
FPS = 20


def make_contract(**changes: Any) -> RobotContract:
    """The Sawyer with its pose as the only input and a goal pose."""
    content = load_yaml(FILE, ContractError)
    fields = ["pose.position.x", "pose.position.y", "pose.position.z"]
    content["inputs"] = [
        {"key": KEY, "topic": "/pose", "type": POSE, "fields": fields, "max_age_s": 0.2},
        {
            "key": "goal.pose",
            "topic": "/goal_pose",
            "type": POSE,
            "fields": fields,
            "alignment": {"method": "latch"},
            "on_new_goal": "zero",
        },
    ]
    content["action"]["limits"].pop("workspace")
    content.pop("goal")
    content["instruction"] = {"default": "wait"}
    return parse_contract({**content, **changes}, "robot.yaml")


class FakePredictor:
    """Commands the x that it was seeded with; notes what it is asked. Its predictions wait for `gate`."""

    def __init__(
        self, n_obs_steps: int = 1, keys: tuple[str, ...] = (KEY,), x: float = 0.005, horizon: int = 8
    ) -> None:
        self.spec = PredictorSpec(keys, (), n_obs_steps, horizon, horizon)
        self.log: list[str] = []
        self.gate = threading.Event()
        self.gate.set()
        self.unknown: set[str] = set()
        self.x = x
        self.failure: Exception | None = None

    def begin_episode(self) -> None:
        self.log.append("begin")

    def is_prepared(self, instruction: str) -> bool:
        return instruction not in self.unknown

    def prepare(self, instruction: str) -> None:
        if instruction in self.unknown:
            raise ConfigError(f"'{instruction}' needs a language model that is not installed")

    def predict(self, observation: Observation, is_known: Any) -> Any:
        self.log.append(f"{observation.stamp_ns * FPS // 10**9} {observation.instruction}")
        assert self.gate.wait(10)
        if self.failure is not None:
            raise self.failure
        return np.tile([self.x, 0.0, 0.0, 1.0], (self.spec.action_horizon, 1))

    def close(self) -> None:
        self.log.append("close")


class Subject:
    """A runtime fed by hand: tick by tick, or by its threads."""

    def __init__(self, predictor: FakePredictor | None = None, contract: RobotContract | None = None, **options: Any):
        self.predictor = predictor or FakePredictor()
        self.contract = contract or make_contract()
        self.clock = ManualClock(10 * 10**9 // FPS)
        self.runtime = PolicyRuntime(self.contract, self.predictor, deserialize, self.clock, RuntimeOptions(**options))
        self.index = {spec.key: i for i, spec in enumerate(self.runtime.specs)}

    def reach(self, tick: int, *, silent: bool = False) -> None:
        self.clock.set(tick_ns(tick, FPS))
        if not silent:
            self.send(KEY, tick)

    def send(self, key: str, tick: int, seed: int = 0) -> None:
        spec = self.runtime.specs[self.index[key]]
        message = make_example_message(spec, tick_ns(tick, FPS), seed)
        self.runtime.push(self.index[key], serialize(message, spec.type), self.clock.now_ns())

    def say(self, text: str) -> None:
        raw = serialize(typestore().types[TEXT](text), TEXT)
        self.runtime.push(self.index["task"], raw, self.clock.now_ns())

    def step(self, tick: int) -> ControlOutput:
        """Observe, decide and command at a tick."""
        self.reach(tick)
        self.runtime.observe(every_tick=True)
        decision = self.runtime.decide()
        if decision is not None:
            self.runtime.deliver(decision, decision.observed.stamp_ns)
        return self.runtime.control(tick_ns(tick, FPS))


def action_of(output: ControlOutput) -> float:
    assert output.command is not None
    return float(output.command.action[0])


def test_a_tick_becomes_a_command() -> None:
    subject = Subject()
    assert action_of(subject.step(10)) == 0.005
    assert subject.predictor.log == ["begin", "10 wait"]


def test_after_missed_ticks_the_newest_is_next_and_history_stays_consecutive() -> None:
    subject = Subject(FakePredictor(n_obs_steps=3))
    subject.step(10)
    for tick in range(11, 17):
        subject.reach(tick)
    result = subject.runtime.observe()
    assert result is not None
    assert result.stamp_ns == tick_ns(16, FPS)
    question = subject.runtime.runner.question()
    assert question.observation.is_pad.tolist() == [False, False, False]
    assert question.is_known.tolist() == [False, False, False]


def test_a_missing_input_is_known_at_its_tick_and_nothing_is_decided() -> None:
    subject = Subject()
    subject.step(10)
    subject.reach(16, silent=True)
    (result,) = [subject.runtime.observe()]
    assert result is not None
    assert result.missing[0].topic == "/pose"
    assert subject.runtime.decide() is None
    assert action_of(subject.runtime.control(tick_ns(16, FPS))) == 0.0
    assert subject.runtime.controller.status.state is ControlState.STOPPED


def test_a_decision_from_before_a_dropout_does_not_count_after_it() -> None:
    subject = Subject()
    subject.reach(10)
    subject.runtime.observe()
    late = subject.runtime.decide()
    assert late is not None
    subject.reach(16, silent=True)
    subject.runtime.observe()
    subject.reach(17)
    assert not subject.runtime.deliver(late, tick_ns(17, FPS))


def test_a_new_instruction_begins_an_episode_and_keeps_the_running_chunk_until_the_first_new_one() -> None:
    subject = Subject()
    subject.step(10)
    subject.reach(11)
    subject.say("push")
    assert action_of(subject.runtime.control(tick_ns(11, FPS))) == 0.005
    subject.predictor.x = 0.002
    subject.step(11)
    assert action_of(subject.step(12)) == 0.002
    assert subject.predictor.log == ["begin", "10 wait", "begin", "11 push", "12 push"]


def test_the_same_instruction_again_changes_nothing() -> None:
    subject = Subject()
    subject.step(10)
    subject.say("wait")
    subject.step(11)
    assert subject.predictor.log == ["begin", "10 wait", "11 wait"]


def test_a_new_goal_that_says_zero_stops_the_robot_until_the_first_chunk_decided_on_it() -> None:
    subject = Subject(FakePredictor(keys=(KEY, "goal.pose")))
    subject.send("goal.pose", 10, seed=1)
    subject.step(10)
    subject.reach(11)
    subject.send("goal.pose", 11, seed=2)
    output = subject.runtime.control(tick_ns(11, FPS))
    assert action_of(output) == 0.0
    assert subject.runtime.controller.status.state is ControlState.WAITING
    subject.predictor.x = 0.003
    assert action_of(subject.step(12)) == 0.003


def test_a_goal_that_never_came_is_named_also_after_a_new_instruction() -> None:
    subject = Subject(FakePredictor(keys=(KEY, "goal.pose")))
    subject.say("push")
    assert subject.step(11).command is None
    assert [item.key for item in subject.runtime.controller.status.missing] == ["goal.pose"]


def test_an_instruction_that_cannot_be_made_ready_is_refused_and_the_old_one_goes_on() -> None:
    subject = Subject()
    subject.predictor.unknown = {"lift the cube"}
    subject.step(10)
    for refused in (lambda: subject.runtime.set_instruction("lift the cube"), lambda: subject.say("lift the cube")):
        with pytest.raises(UserError, match="language model"):
            refused()
    assert subject.runtime.instruction == "wait"
    assert action_of(subject.step(11)) == 0.005
    assert subject.predictor.log[-1] == "11 wait"


@pytest.mark.parametrize("mode", ["latest", "receding_horizon", "temporal_ensemble"])
def test_old_and_new_goal_are_never_blended(mode: str) -> None:
    subject = Subject(chunk_mode=mode)
    subject.step(10)
    subject.say("push")
    subject.predictor.x = 0.002
    assert action_of(subject.step(11)) == 0.002


@pytest.mark.parametrize("is_simulated", [True, False])
def test_a_tick_is_observed_when_the_stream_s_delay_is_over_unless_time_is_simulated(is_simulated: bool) -> None:
    subject = Subject()
    subject.clock.is_simulated = is_simulated  # type: ignore[misc]
    for k in range(20):  # stamped 10 ms after each tick, and 5 ms on the way
        stamp_ns = tick_ns(10 + k, FPS) + 10_000_000
        message = make_example_message(subject.runtime.specs[0], stamp_ns, 0)
        subject.clock.set(stamp_ns + 5_000_000)
        subject.runtime.push(0, serialize(message, POSE), subject.clock.now_ns())
        subject.runtime.observe()
    subject.clock.set(tick_ns(30, FPS))
    assert subject.runtime.observe() is None
    patience_s = subject.runtime.observer.patience_s(0.1)
    subject.clock.set(tick_ns(30, FPS) + 6_000_000)
    result = subject.runtime.observe()
    assert (result is None) == is_simulated
    if not is_simulated:
        assert patience_s == pytest.approx(0.006, abs=1e-6)
        assert result is not None
        assert result.stamp_ns == tick_ns(30, FPS)


def test_time_that_went_back_is_counted_anew() -> None:
    subject = Subject()
    subject.step(100)
    subject.clock.set(tick_ns(5, FPS))
    subject.runtime.time_went_back()
    zero = subject.runtime.control(tick_ns(5, FPS))
    assert zero.command is not None
    assert zero.command.action.tolist() == [0.0, 0.0, 0.0, 1.0]  # the gripper stays as it was
    assert action_of(subject.step(6)) == 0.005
    assert subject.predictor.log[-2:] == ["begin", "6 wait"]


def test_a_tick_waits_until_it_is_known_to_which_episode_it_belongs() -> None:
    subject = Subject(follows_episodes=True)
    subject.runtime.episode_at(tick_ns(9, FPS))
    subject.reach(10)
    assert subject.runtime.observe() is None
    subject.runtime.begin_episode(tick_ns(10, FPS))
    subject.runtime.episode_at(tick_ns(10, FPS))
    assert subject.runtime.observe() is not None


def test_ticks_before_an_episode_are_skipped() -> None:
    subject = Subject()
    subject.step(10)
    subject.runtime.begin_episode(tick_ns(12, FPS))
    subject.reach(11)
    assert subject.runtime.observe() is None
    subject.step(12)
    assert subject.predictor.log == ["begin", "10 wait", "begin", "12 wait"]


def test_another_policy_counts_on_and_the_old_chunks_serve_until_its_first() -> None:
    subject = Subject()
    subject.step(10)
    other = FakePredictor(x=0.001)
    subject.runtime.exchange(other)
    subject.reach(11)
    assert action_of(subject.runtime.control(tick_ns(11, FPS))) == 0.005
    assert action_of(subject.step(11)) == 0.001
    newest = subject.runtime.executor.newest
    assert newest is not None
    assert newest.chunk_id == 2


def test_a_policy_that_needs_what_is_not_observed_is_refused() -> None:
    subject = Subject()
    with pytest.raises(ConfigError, match=r"needs observation\.images\.front"):
        subject.runtime.exchange(FakePredictor(keys=("observation.images.front",)))
    assert action_of(subject.step(10)) == 0.005


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_prediction_that_is_no_action_stops_the_robot_until_the_next_good_one(bad: float) -> None:
    subject = Subject()
    subject.step(10)
    subject.predictor.x = bad
    assert action_of(subject.step(11)) == 0.0
    assert "'dx' of step 0" in subject.runtime.controller.status.message
    subject.predictor.x = 0.004
    assert action_of(subject.step(12)) == 0.004


def test_a_policy_that_cannot_decide_stops_the_robot_and_says_why() -> None:
    subject = Subject()
    subject.step(10)
    subject.predictor.failure = ConfigError("the server does not answer")
    assert action_of(subject.step(11)) == 0.0
    assert "the server does not answer" in subject.runtime.controller.status.message
    subject.predictor.failure = None
    assert action_of(subject.step(12)) == 0.005


def test_dropped_commands_are_counted_by_reason() -> None:
    content = load_yaml(FILE, ContractError)["action"]
    content["limits"]["workspace"] |= {"position_key": KEY, "position_names": [f"pose.position.{a}" for a in "xyz"]}
    subject = Subject(contract=make_contract(action=content))
    subject.runtime.pipeline.newest = lambda _: None  # type: ignore[method-assign]
    assert subject.step(10).command is None
    assert subject.runtime.controller.dropped == {"position_unknown": 1}


class Threads:
    """The runtime's threads, under a clock that the test moves."""

    def __init__(self, **options: Any) -> None:
        self.subject = Subject(lock_step=True, **options)
        self.outputs: list[ControlOutput] = []
        self.threads = RuntimeThreads(self.subject.runtime, self.outputs.append, lambda: True)

    def __enter__(self) -> "Threads":
        self.threads.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.subject.predictor.gate.set()
        self.threads.stop()

    def reach(self, tick: int) -> None:
        self.subject.reach(tick)
        self.threads.notify()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)


def test_in_lock_step_every_tick_is_answered_by_one_command() -> None:
    with Threads() as run:
        for tick in range(10, 15):
            run.reach(tick)
            run.wait(lambda: len(run.outputs) == tick - 9)  # noqa: B023 (called at once)
        stamps = [output.command.effect_ns for output in run.outputs if output.command is not None]
        assert stamps == [tick_ns(tick, FPS) for tick in range(10, 15)]


def test_a_tick_under_decision_is_decided_anew_after_a_new_instruction_and_answered_once() -> None:
    with Threads() as run:
        run.subject.predictor.gate.clear()
        run.reach(10)
        run.wait(lambda: "10 wait" in run.subject.predictor.log)
        run.subject.say("push")
        run.threads.notify()
        run.subject.predictor.gate.set()
        run.wait(lambda: len(run.outputs) == 1)
        assert run.subject.predictor.log == ["begin", "10 wait", "begin", "10 push"]
        time.sleep(0.02)
        assert len(run.outputs) == 1


def test_inputs_are_looked_at_while_a_prediction_hangs_and_stopping_does_not_wait_for_it() -> None:
    run = Threads()
    run.threads.start()
    run.subject.predictor.gate.clear()
    run.reach(10)
    run.wait(lambda: "10 wait" in run.subject.predictor.log)
    run.subject.reach(20, silent=True)
    run.threads.notify()
    run.wait(lambda: bool(run.subject.runtime.missing(tick_ns(20, FPS))))
    assert not run.threads.stop()
    assert run.threads.is_stuck
    with pytest.raises(ConfigError, match="has still not ended"):
        run.threads.start()
    run.subject.predictor.gate.set()
    run.wait(lambda: not run.threads.is_stuck)
    assert run.outputs[0].command is None or run.outputs[0].command.action[0] == 0.0


def test_a_prediction_that_takes_too_long_is_named_and_the_robot_stands_still() -> None:
    subject = Subject(max_inference_s=0.05)
    subject.step(10)
    subject.predictor.gate.clear()
    subject.reach(11)
    subject.runtime.observe()
    thread = threading.Thread(target=subject.runtime.decide)
    thread.start()
    deadline = time.monotonic() + 10
    while subject.runtime.busy_s < 0.06:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert action_of(subject.runtime.control(tick_ns(11, FPS))) == 0.0
    assert "max_inference_s 0.05" in subject.runtime.controller.status.message
    subject.predictor.gate.set()
    thread.join()
    assert action_of(subject.step(12)) == 0.005


def test_a_bug_in_a_policy_is_a_fault_in_one_line() -> None:
    with Threads() as run:
        run.subject.predictor.failure = ZeroDivisionError("division\nby zero")
        run.reach(10)
        run.wait(lambda: bool(run.threads.fault))
        assert run.threads.fault == "predict failed: ZeroDivisionError: division by zero"
