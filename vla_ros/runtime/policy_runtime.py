"""The one wiring of everything between messages and commands. No ROS and no thread of its own.

    push ─► pipeline ─ observe ─► history ─ decide ─► predictor ─ deliver ─► executor ─ control ─► filter ─► command

The policy node calls `observe`, `decide` and `control` from a thread each; the replay of a bag and the in-process
rollout call them one after the other. What an episode, an instruction, a goal, a jump of the clock or another policy
resets is decided here and nowhere else.
"""

import threading
import time
from dataclasses import dataclass, replace

import numpy as np

from vla_ros.contract import INSTRUCTION, InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ActionChunk, Array, ConfigError, DecodeError, ObservationError, UserError
from vla_ros.messages.types.std_msgs import MAX_TEXT
from vla_ros.runtime.chunk_executor import ChunkExecutor, chunk_problem
from vla_ros.runtime.clock import Clock
from vla_ros.runtime.controller import Controller, ControlOutput, Situation
from vla_ros.runtime.latency import LatencyTracker
from vla_ros.runtime.measurement import MeasuredRobot, without_following_error
from vla_ros.runtime.observer import Observer, TickResult
from vla_ros.runtime.path_tracking import PathTracker
from vla_ros.runtime.policy_runner import PolicyRunner
from vla_ros.runtime.predictor import Predictor
from vla_ros.safety import SafetyFilter, StopLatch
from vla_ros.streams import Deserialize, MissingInput, ObservationPipeline

_NEVER = -1
STAMPS_AHEAD_NS = NANOSECONDS // 10
"""By how much a stamp may be ahead of its arrival under system time: what clocks on one network differ by, and more."""


@dataclass(frozen=True)
class RuntimeOptions:
    """How a policy is run; the policy node's parameters of the same names.

    Attributes:
        instruction: What to do at first; empty takes the contract's default.
        chunk_mode: As `ChunkExecutor`.
        n_action_steps: Of ``receding_horizon``; 0 takes the policy's own.
        ensemble_decay: Of ``temporal_ensemble``.
        max_inference_s: A prediction that takes longer, in s, is a fault: the robot is told to stand still.
        lock_step: Whether every tick is answered by one command of its own, whatever the clock says meanwhile.
        follows_episodes: Whether a tick waits until `PolicyRuntime.episode_at` has reached it.
        robot_follows: Whether the robot executes the commands. In a replay it does what was recorded, and how far that
            is from the commands is no fault.
    """

    instruction: str = ""
    chunk_mode: str = "latest"
    n_action_steps: int = 0
    ensemble_decay: float = 0.01
    max_inference_s: float = 10.0
    lock_step: bool = False
    follows_episodes: bool = False
    robot_follows: bool = True


@dataclass(frozen=True)
class Decision:
    """A prediction on its way to the executor.

    Attributes:
        observed: The tick that was decided on.
        chunk: What was decided; None when the predictor could not.
        problem: Why it could not, in a sentence.
        epoch: The episode that the decision belongs to.
    """

    observed: TickResult
    chunk: ActionChunk | None
    problem: str
    epoch: int


class PolicyRuntime:
    """One robot's observations, policy and commands.

    `push`, `begin_episode`, `time_went_back`, `exchange` and `set_instruction` may be called from any thread;
    `observe`, `decide` with `deliver`, and `control` with `halt` from one thread each.

    Args:
        contract: The robot.
        predictor: The policy, warm.
        deserialize: Bytes to message.
        clock: Now, on the timeline of the robot's stamps.
        options: How the policy is run.
        stop: The stop latch; None makes one. A node hands in its own, which outlives the runtime.

    Attributes:
        specs: The streams to subscribe to; `push` counts them in this order.
        latency: Of predictions.

    Raises:
        UserError: The contract lacks an input of the policy, an option is out of range, or the contract's limits
            contradict each other.
    """

    def __init__(  # noqa: PLR0917 (in the order in which a message passes)
        self,
        contract: RobotContract,
        predictor: Predictor,
        deserialize: Deserialize,
        clock: Clock,
        options: RuntimeOptions | None = None,
        stop: StopLatch | None = None,
    ) -> None:
        self.contract, self.clock = contract, clock
        self.options = options = options or RuntimeOptions()
        bounded = contract if options.robot_follows else without_following_error(contract)
        follows = contract.action.representation == "trajectory"
        self.safety = SafetyFilter(bounded.commanded, stop, require_measurement=True)
        self.runner = PolicyRunner(predictor, contract.fps)
        self._measured = MeasuredRobot(contract, is_needed=follows or self.safety.needs_measurement)
        spec, there = predictor.spec, contract.policy_features
        keys = {key for key in spec.input_keys if key in there or key not in spec.optional_keys}
        optional = set(spec.optional_keys) - self._measured.keys
        self.pipeline = ObservationPipeline(contract, deserialize, {INSTRUCTION, *keys, *self._measured.keys}, optional)
        self.pipeline.refuse_stamps_ahead(None if clock.is_simulated else STAMPS_AHEAD_NS)
        self._measured.read_from(self.pipeline)
        self.specs: tuple[InputSpec, ...] = self.pipeline.specs
        self.executor = ChunkExecutor(
            contract.action,
            contract.fps,
            options.chunk_mode,
            n_action_steps=options.n_action_steps or spec.n_action_steps,
            ensemble_decay=options.ensemble_decay,
        )
        self.observer = Observer(
            self.pipeline,
            self.runner,
            clock,
            fps=contract.fps,
            max_wait_s=contract.max_wait_s,
            follows_episodes=options.follows_episodes,
        )
        self.controller = Controller(self.executor, self.safety, PathTracker(contract) if follows else None)
        self.latency = LatencyTracker()
        self._received_ns = [_NEVER] * len(self.specs)
        self._lock = threading.Lock()
        self._epoch = 0
        self._undecided: TickResult | None = None  # observed, and nobody has begun to decide on it
        self._answered_ns = _NEVER  # the newest tick that a decision was delivered for
        self._void_before_ns = _NEVER  # decisions on earlier ticks came too late: an input was missing since
        self._voided = False  # whether the chunks in force are of the last episode, kept until the first of this one
        self._problem = ""
        self._asked_ns: int | None = None  # since when the predictor is busy, monotonic
        if options.instruction:
            self.pipeline.latched(INSTRUCTION).set(_text(options.instruction), 0)

    # -- what comes in ------------------------------------------------------------------------------------------------

    @property
    def instruction(self) -> str:
        """What the policy is told to do from now on."""
        return str(self.pipeline.latched(INSTRUCTION).newest)

    def push(self, index: int, raw: bytes, receive_ns: int) -> None:
        """Take a serialised message of stream `index`, received at `receive_ns`.

        Those that are sampled at ticks are stored. A latched one is decoded, holds from now on and begins an episode
        when it is another than before.

        Raises:
            DecodeError: A latched message does not hold what the contract says.
            UserError: An instruction that this machine cannot make ready; the old one goes on.
        """
        self._received_ns[index] = receive_ns
        spec = self.specs[index]
        if not spec.is_latched:
            self.pipeline.push(index, raw, receive_ns)
            return
        stream = self.pipeline.latched(spec.key)
        if spec.key == INSTRUCTION:
            self.set_instruction(str(stream.decode(raw)), receive_ns)
            return
        try:
            is_new = stream.push(raw, receive_ns)
        except DecodeError:
            self._on_new_goal(spec, receive_ns)
            raise
        if is_new:
            self._on_new_goal(spec, receive_ns)

    def is_ready_for(self, raw: bytes) -> bool:
        """Whether a serialised instruction can be pushed without making it ready first, which may take long."""
        try:
            instruction = str(self.pipeline.latched(INSTRUCTION).decode(raw))
        except DecodeError:
            return True  # refused at once
        return self.runner.predictor.is_prepared(instruction)

    def set_instruction(self, instruction: str, receive_ns: int | None = None) -> None:
        """Tell the policy what to do. May take long: the instruction is embedded first.

        Raises:
            UserError: The policy cannot be told so on this machine; the old instruction goes on.
        """
        spec = self.contract.instruction
        value = _text(instruction)
        self.runner.predictor.prepare(instruction)
        now_ns = self.clock.now_ns() if receive_ns is None else receive_ns
        if self.pipeline.latched(spec.key).set(value, now_ns):
            self._on_new_goal(spec, now_ns)

    def episode_at(self, stamp_ns: int) -> None:
        """Say that the robot's episode at `stamp_ns` is known."""
        self.observer.episode_at(stamp_ns)

    def begin_episode(self, start_ns: int = 0) -> None:
        """Begin an episode of the robot: forget samples before it, frames, policy state and chunks.

        Args:
            start_ns: First moment of the episode; ticks before it are skipped.
        """
        self.pipeline.discard_before(start_ns)  # or the first ticks would still see the end of the last episode
        self._begin(start_ns, "zero")

    def time_went_back(self) -> None:
        """Forget everything that has a time: ticks are counted anew from the present."""
        self.pipeline.clear()
        self._received_ns[:] = [_NEVER] * len(self._received_ns)
        self.safety.forget_times()
        with self._lock:
            self._answered_ns = self._void_before_ns = _NEVER
        self._begin(0, "zero", clock_went_back=True)

    def start(self) -> None:
        """Begin to observe, decide and command, with nothing known of what was before."""
        self.pipeline.clear()
        self._received_ns[:] = [_NEVER] * len(self._received_ns)
        self.safety.reset()
        self.controller.reset()
        with self._lock:
            self._answered_ns = self._void_before_ns = _NEVER
            self._problem = ""
        self._begin(0, "zero")
        self.observer.forget()

    def check_exchange(self, predictor: Predictor) -> None:
        """Refuse a policy that needs inputs which are not observed.

        Raises:
            ConfigError: Names them.
        """
        spec, there = predictor.spec, {spec.key for spec in self.specs}
        missing = sorted(set(spec.needed_keys) - there)
        if missing:
            raise ConfigError(
                f"needs {', '.join(missing)}, which the running policy does not take; clean the node up and configure "
                "it with this checkpoint."
            )

    def exchange(self, predictor: Predictor) -> None:
        """Go on with another policy, warm already, from the next tick; the old one's chunks serve until its first.

        Raises:
            UserError: It needs inputs that are not observed, or cannot follow the present instruction.
        """
        self.check_exchange(predictor)
        predictor.prepare(self.instruction)
        self.executor.follow(self.options.n_action_steps or predictor.spec.n_action_steps)
        with self._lock:
            self.runner.exchange(predictor)
            self.latency.restart()

    # -- what is seen -------------------------------------------------------------------------------------------------

    def observe(self, *, every_tick: bool = False) -> TickResult | None:
        """Observe the next tick whose samples are there; see `Observer.observe`."""
        result = self.observer.observe(every_tick=every_tick)
        if result is None:
            return None
        with self._lock:
            if result.frame is not None:
                self._undecided = result
            else:  # what was decided before an input went must not resume when it returns
                self._undecided, self._void_before_ns = None, result.stamp_ns
        return result

    def missing(self, t_ns: int) -> tuple[MissingInput, ...]:
        """Return the needed inputs that are missing at a moment, as soon as that is known."""
        silent = self._silent(t_ns)
        result = self.observer.result
        return silent or (result.missing if result is not None else ())

    def _silent(self, now_ns: int) -> tuple[MissingInput, ...]:
        """Inputs from which nothing has come for longer than their limit; found before the next tick would find it."""
        found = []
        for spec, received_ns in zip(self.specs, self._received_ns, strict=True):
            if spec.is_latched or spec.is_static or spec.key in self.pipeline.optional:
                continue
            age_s = (now_ns - received_ns) / NANOSECONDS if received_ns != _NEVER else float("inf")
            if age_s > spec.max_age_s:
                reason = "silent" if received_ns == _NEVER else "stale"
                found.append(MissingInput(spec.key, spec.topic, age_s, spec.max_age_s, reason, spec.on_missing))
        return tuple(found)

    # -- what is decided ----------------------------------------------------------------------------------------------

    def decide(self) -> Decision | None:
        """Predict on what was observed last; None when nothing new was. Takes as long as the predictor does."""
        with self._lock:
            observed, self._undecided = self._undecided, None
            if observed is None:
                return None
            try:
                question = self.runner.question()
            except ObservationError:
                return None  # an episode began between observing and this
            epoch, asked_ns, predictor = self._epoch, time.monotonic_ns(), self.runner.predictor
            self._asked_ns = asked_ns
        try:
            chunk = self.runner.answer(question)
        except UserError as reason:
            if self.runner.predictor is not predictor:
                return None  # exchanged meanwhile, and its process ended
            self.runner.reset()  # what the policy remembers may be gone or half made
            return Decision(observed, None, f"The policy decides nothing: {reason}", epoch)
        finally:
            self._asked_ns = None
        chunk = replace(chunk, inference_ns=time.monotonic_ns() - asked_ns)
        problem = chunk_problem(self.contract.action, chunk)
        if problem:
            return Decision(observed, None, f"The prediction is not used: {problem}.", epoch)
        return Decision(replace(observed, chunk=chunk), chunk, "", epoch)

    def deliver(self, decision: Decision, arrival_ns: int) -> bool:
        """Hand a decision to the executor.

        Args:
            decision: What `decide` returned.
            arrival_ns: When it is available.

        Returns:
            Whether it counts: one of another episode does not.
        """
        with self._lock:
            if decision.epoch != self._epoch or decision.observed.stamp_ns < self._void_before_ns:
                return False
            self._answered_ns = decision.observed.stamp_ns
            self._problem = decision.problem
            if decision.chunk is None:
                return True
            self.latency.add(decision.chunk.inference_ns)
            if self._voided:  # old and new goal are never blended
                self.executor.clear()
                self._voided = False
            self.executor.submit(decision.chunk, arrival_ns)
        return True

    @property
    def busy_s(self) -> float:
        """For how long the prediction under way has taken, s; 0 while there is none."""
        asked_ns = self._asked_ns
        return 0.0 if asked_ns is None else (time.monotonic_ns() - asked_ns) / NANOSECONDS

    # -- what is commanded --------------------------------------------------------------------------------------------

    def control(self, t_ns: int, *, enabled: bool = True, answers: TickResult | None = None) -> ControlOutput:
        """Return what is to be published for a control moment.

        Args:
            t_ns: The moment, when the command takes effect.
            enabled: Whether commands may be published; False is a dry run.
            answers: In lock-step, the tick that is answered; its own missing inputs count and no later ones.
        """
        missing = self.missing(t_ns) if answers is None else answers.missing
        return self.controller.control(t_ns, Situation(missing, self._trouble(), self._measured.now(), enabled))

    def halt(self, t_ns: int) -> ControlOutput:
        """Return zero motion if the robot may be moving: control ends here."""
        return self.controller.halt(t_ns, self._measured.now())

    def _trouble(self) -> str:
        busy_s, limit_s = self.busy_s, self.options.max_inference_s
        if busy_s > limit_s and not self.options.lock_step:
            return f"The prediction under way has taken {busy_s:.1f} s (max_inference_s {limit_s:g}); waiting for it."
        return self._problem

    # -- episodes -----------------------------------------------------------------------------------------------------

    def _on_new_goal(self, spec: InputSpec, receive_ns: int) -> None:
        """What is to be done has changed."""
        if spec.begins_episode:
            with self._lock:
                start_ns = max(receive_ns, self._answered_ns + 1)  # a tick is answered once
            self._begin(start_ns, spec.on_new_goal)

    def _begin(self, start_ns: int, running_chunk: str, *, clock_went_back: bool = False) -> None:
        with self._lock:
            self._epoch += 1
            self._undecided, self._problem = None, ""
            self._voided = running_chunk == "keep"
            if running_chunk == "zero":
                self.executor.clear()
            self.observer.begin_episode(start_ns, clock_went_back=clock_went_back)


def _text(instruction: str) -> Array:
    """Return an instruction as a latched value.

    Raises:
        ConfigError: It is too long to be one.
    """
    if len(instruction) > MAX_TEXT:
        raise ConfigError(f"an instruction has at most {MAX_TEXT} characters, got {len(instruction)}.")
    return np.array(instruction)
