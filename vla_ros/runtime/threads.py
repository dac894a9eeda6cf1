"""The runtime under a running clock: a thread that observes, one that predicts and one that commands. No rclpy.

The commanding thread touches no torch, decodes nothing larger than a robot's state and waits for nobody. The observing
one keeps looking at the inputs while a prediction is under way. No call here waits for a prediction without a limit:
one that never ends leaves its thread behind, and everything else goes on.
"""

import gc
import logging
import queue
import threading
from collections.abc import Callable

from vla_ros.data_types import NANOSECONDS, ConfigError, UserError, tick_ns
from vla_ros.runtime.controller import ControlOutput, ControlStatus
from vla_ros.runtime.latency import LatencyTracker
from vla_ros.runtime.observer import TickResult
from vla_ros.runtime.policy_runtime import PolicyRuntime

_IDLE_S = 0.1  # longest wait before looking at the clock again, should a notification be missed
_GOODBYE_S = 1.0  # how long a thread may take to end; a prediction that takes longer is abandoned

_LOG = logging.getLogger(__name__)


class RuntimeThreads:
    """Drives a runtime by its clock, or tick by tick in lock-step.

    Args:
        runtime: What is driven.
        publish: Publishes what a control moment brings; called by the commanding thread.
        enabled: Whether commands may be published; False is a dry run.

    Attributes:
        lateness: Of control moments, wall time.
        deadline_misses: Control moments that came too late or not at all.
        fault: A bug that ended a thread, in a sentence; empty while all is well. Its traceback is logged.
    """

    def __init__(
        self, runtime: PolicyRuntime, publish: Callable[[ControlOutput], None], enabled: Callable[[], bool]
    ) -> None:
        self._runtime, self._publish, self._enabled = runtime, publish, enabled
        self._lock_step = runtime.options.lock_step
        self._rate_hz = runtime.contract.control_rate_hz
        self._period_ns = NANOSECONDS // self._rate_hz
        self._stopping = threading.Event()
        self._wake, self._observed = threading.Event(), threading.Event()
        self._answers: queue.SimpleQueue[TickResult | None] = queue.SimpleQueue()
        self._threads: dict[str, threading.Thread] = {}
        self.lateness = LatencyTracker()
        self.deadline_misses = 0
        self.fault = ""

    @property
    def is_stuck(self) -> bool:
        """Whether a prediction that was abandoned has still not ended."""
        return self._stopping.is_set() and any(thread.is_alive() for thread in self._threads.values())

    def start(self) -> None:
        """Observe, decide and command from the next tick on.

        Raises:
            ConfigError: A prediction from before has still not ended; the policy must be loaded anew.
        """
        if self.is_stuck:
            raise ConfigError(
                "the prediction that was under way when control ended has still not ended; clean the node up and "
                "configure it again."
            )
        self._stopping.clear()
        self._answers = queue.SimpleQueue()
        self.fault, self.deadline_misses = "", 0
        self.lateness.restart()
        self._runtime.start()
        loops = {"observe": self._observe, "predict": self._predict, "command": self._command}
        for name, loop in loops.items():
            self._threads[name] = threading.Thread(target=self._guarded, args=(name, loop), name=name, daemon=True)
            self._threads[name].start()

    def stop(self) -> bool:
        """Command zero motion and end the threads.

        Returns:
            Whether all have ended; False when a prediction hangs, whose thread is left behind.
        """
        self._stopping.set()
        self._answers.put(None)
        self.notify()
        self._observed.set()
        for name in ("command", "observe", "predict"):  # the robot stands still before anything is waited for
            thread = self._threads.get(name)
            if thread is not None:
                thread.join(_GOODBYE_S)
        return not self.is_stuck

    def notify(self) -> None:
        """Say that a sample came or that time went on."""
        self._wake.set()

    def _guarded(self, name: str, loop: Callable[[], None]) -> None:
        """Run a thread; a bug in it is told, and the robot stands still."""
        try:
            loop()
        except Exception as reason:  # noqa: BLE001 (logged with its traceback, and told by the node)
            self.fault = f"{name} failed: {_one_line(reason)}"
            _LOG.exception("thread %s failed", name)
        finally:
            if name == "command":
                self._publish(self._runtime.halt(self._runtime.clock.now_ns()))

    def _observe(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            result = self._runtime.observe()
            if result is None:
                self._wake.wait(self._runtime.observer.patience_s(_IDLE_S))
            elif result.frame is not None:
                self._observed.set()
            elif self._lock_step:
                self._answers.put(result)

    def _predict(self) -> None:
        while not self._stopping.is_set():
            self._observed.wait(_IDLE_S)
            self._observed.clear()
            decision = self._runtime.decide()
            if decision is None:
                continue
            stamp_ns = decision.observed.stamp_ns
            arrival_ns = stamp_ns if self._lock_step else self._runtime.clock.now_ns()
            if self._stopping.is_set() or not self._runtime.deliver(decision, arrival_ns):
                self.notify()  # an episode began meanwhile, and its first tick may be there already
            elif self._lock_step:
                self._answers.put(decision.observed)
            gc.collect(1)  # between predictions, where a pause costs nothing; the collector itself is off

    def _command(self) -> None:
        if self._lock_step:
            while not self._stopping.is_set():
                answers = self._answers.get()
                if answers is not None:
                    self._publish(self._control(answers.stamp_ns, answers))
            return
        index: int | None = None
        while not self._stopping.is_set():
            index = self._command_next(index)

    def _command_next(self, index: int | None) -> int | None:
        """Wait for a control moment and command; return the index of the next one, None after time went back."""
        clock = self._runtime.clock
        now_ns = clock.now_ns()
        if now_ns <= 0:
            self._runtime.controller.status = ControlStatus(message="Simulated time has not begun: nothing on /clock.")
            self._stopping.wait(_IDLE_S)
            return index
        newest = now_ns * self._rate_hz // NANOSECONDS
        if index is None or index > newest + 2:  # the first tick, or time went back
            index = newest + 1
        elif index < newest:  # whole ticks were missed: their commands are void, a burst of them a hazard
            self.deadline_misses += newest - index
            index = newest
        late_ns = clock.wait_until(tick_ns(index, self._rate_hz), self._stopping.is_set)
        if late_ns is None:
            return None
        self.lateness.add(late_ns)
        self.deadline_misses += late_ns > self._period_ns // 2
        self._publish(self._control(tick_ns(index, self._rate_hz)))
        return index + 1

    def _control(self, t_ns: int, answers: TickResult | None = None) -> ControlOutput:
        return self._runtime.control(t_ns, enabled=self._enabled(), answers=answers)


def _one_line(reason: BaseException) -> str:
    """Return an exception in one line of bounded length; its traceback belongs in the log."""
    text = " ".join(str(reason).split())
    kind = "" if isinstance(reason, UserError) else f"{type(reason).__name__}: "
    return f"{kind}{text[:300]}"
