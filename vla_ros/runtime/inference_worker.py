"""The thread that assembles observations and predicts. Publishes nothing and commands nothing; no rclpy."""

import gc
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from vla_ros.data_types import NANOSECONDS, ActionChunk, Frame, UserError, first_tick_at_or_after, tick_ns
from vla_ros.ros_io import MissingInput, ObservationPipeline
from vla_ros.runtime import ChunkExecutor, LatencyTracker, PolicyRunner
from vla_ros.runtime.clock import Clock

_IDLE_S = 0.1  # longest wait before looking at the clock again, should a notification be missed


@dataclass(frozen=True)
class TickResult:
    """What became of one tick.

    Attributes:
        stamp_ns: The tick.
        frame: The observation's newest frame, None when a needed input is missing.
        chunk: What was decided on it, None when nothing was.
        missing: The needed inputs that are missing.
    """

    stamp_ns: int
    frame: Frame | None
    chunk: ActionChunk | None
    missing: tuple[MissingInput, ...]


class InferenceWorker:
    """Predicts on the newest complete tick, again and again, and hands every chunk to the executor.

    When predicting takes longer than a tick, the ticks between are not predicted on; those that the policy's history
    needs are still assembled, so that its frames stay consecutive.

    Args:
        runner: The policy; owned by the worker's thread from `start` on.
        pipeline: Where samples are stored.
        executor: Where chunks go.
        clock: The node's time.
        fps: Ticks per second.
        n_obs_steps: Frames in an observation.
        max_wait_s: How long after a tick its late samples are waited for.
        follows_episodes: Whether a tick also waits until `episode_at` has reached it.
        on_result: Called with every result, from the worker's thread.
    """

    def __init__(
        self,
        runner: PolicyRunner,
        pipeline: ObservationPipeline,
        executor: ChunkExecutor,
        clock: Clock,
        *,
        fps: int,
        n_obs_steps: int,
        max_wait_s: float,
        follows_episodes: bool,
        on_result: Callable[[TickResult], None],
    ) -> None:
        self._runner, self._pipeline, self._executor, self._clock = runner, pipeline, executor, clock
        self._fps, self._n_obs_steps = fps, n_obs_steps
        self._max_wait_ns = round(max_wait_s * NANOSECONDS)
        self._follows_episodes, self._on_result = follows_episodes, on_result
        self._episode_ns = -1
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._next: int | None = None  # index of the next tick
        self._in_flight: int | None = None
        self._epoch, self._restart_ns, self._must_reset = 0, 0, True
        self._next_runner: tuple[PolicyRunner, int] | None = None
        self.instruction = ""
        self.result: TickResult | None = None
        self.latency = LatencyTracker()
        self.fault = ""

    def start(self) -> None:
        """Begin with the next tick."""
        self._stopping.clear()
        self._next, self.result, self.fault = None, None, ""
        self.restart()
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a prediction under way is finished and dropped."""
        self._stopping.set()
        self.restart()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def notify(self) -> None:
        """Say that a sample came or that time went on."""
        self._wake.set()

    def episode_at(self, stamp_ns: int) -> None:
        """Say that the robot's episode at `stamp_ns` is known."""
        self._episode_ns = stamp_ns
        self._wake.set()

    def restart(self, start_ns: int = 0, *, clock_went_back: bool = False) -> None:
        """Begin an episode: forget frames, policy state and chunks, and drop a prediction under way.

        Args:
            start_ns: First moment of the episode; ticks before it are skipped. 0: from the tick under way on.
            clock_went_back: Whether ticks are to be counted anew from the present.
        """
        with self._lock:
            self._epoch += 1
            self._must_reset, self._restart_ns = True, start_ns
            if self._in_flight is not None and self._next is not None:
                self._next = min(self._next, self._in_flight)
            if start_ns and self._next is not None:
                self._next = min(self._next, first_tick_at_or_after(start_ns, self._fps))
            if clock_went_back:
                self._next, self._episode_ns = None, -1
            self._executor.clear()
        self._wake.set()

    def exchange(self, runner: PolicyRunner, n_obs_steps: int) -> None:
        """Go on with another policy, warm already, from the next tick; the old one's chunks serve until its first."""
        with self._lock:
            self._next_runner, self._must_reset = (runner, n_obs_steps), True
        self._wake.set()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._wake.clear()
                index = self._newest_complete_tick()
                if index is None:
                    self._wake.wait(self._patience_s())
                else:
                    self._process(index)
        except UserError as reason:
            self.fault = str(reason)
        except Exception:  # noqa: BLE001
            # A bug in a policy must end in the node's error path, with its traceback, not in a silent thread.
            self.fault = f"inference failed: {traceback.format_exc()}"
        if self.fault:
            self.restart()

    def _patience_s(self) -> float:
        """How long to sleep: until the awaited tick stops waiting for late samples, or a moment."""
        if self._next is None or self._clock.is_simulated:
            return _IDLE_S
        due_ns = tick_ns(self._next, self._fps) + self._max_wait_ns - self._clock.now_ns()
        return min(max(due_ns / NANOSECONDS, 0.0), _IDLE_S)

    def _newest_complete_tick(self) -> int | None:
        """Return the newest tick, from the next one on, whose observation can be assembled."""
        now_ns = self._clock.now_ns()
        if now_ns <= 0:
            return None  # simulated time has not begun
        newest = now_ns * self._fps // NANOSECONDS + 1  # a robot may send a tick's samples before its clock says so
        with self._lock:
            # Far ahead of the clock: system time was set back, which no jump callback reports.
            if self._next is None or self._next > newest + self._fps:
                self._next = first_tick_at_or_after(now_ns, self._fps)
            awaited = self._next
        if not self._complete(awaited, now_ns):
            return None
        return next(
            k for k in range(max(newest, awaited), awaited - 1, -1) if k == awaited or self._complete(k, now_ns)
        )

    def _complete(self, index: int, now_ns: int) -> bool:
        stamp_ns = tick_ns(index, self._fps)
        if self._follows_episodes and self._episode_ns < stamp_ns and now_ns < stamp_ns + self._max_wait_ns:
            return False
        return self._pipeline.complete(stamp_ns, now_ns)

    def _process(self, index: int) -> None:
        """Assemble, predict, hand over; nothing of it counts when a restart came between."""
        with self._lock:
            epoch, first = self._epoch, index if self._next is None else self._next
            self._next = index + 1
            if tick_ns(index, self._fps) < self._restart_ns:
                return
            self._in_flight = index
            self._adopt_runner()
            if self._must_reset:
                self._must_reset = False
                self._runner.reset()
                first = (
                    index if self._restart_ns == 0 else max(first, first_tick_at_or_after(self._restart_ns, self._fps))
                )
        started_ns = time.monotonic_ns()
        result = self._decide(max(first, index - self._n_obs_steps + 1), index, started_ns)
        with self._lock:
            self._in_flight = None
            if epoch != self._epoch:
                return
            self.result = result
            if result.chunk is not None:
                self.latency.add(result.chunk.inference_ns)
                self._executor.submit(result.chunk)
        self._on_result(result)
        gc.collect(1)  # between inferences, where a pause costs nothing; the collector itself is off

    def _adopt_runner(self) -> None:
        if self._next_runner is None:
            return
        runner, self._n_obs_steps = self._next_runner
        runner.next_chunk_id = self._runner.next_chunk_id
        self._runner, self._next_runner = runner, None
        self.latency.restart()

    def _decide(self, first: int, last: int, started_ns: int) -> TickResult:
        """Observe the ticks from `first` to `last` and predict on the last."""
        for index in range(first, last + 1):
            assembled = self._pipeline.assemble(tick_ns(index, self._fps), self.instruction)
            if assembled.frame is not None:
                self._runner.observe(assembled.frame)
        if assembled.frame is None:
            return TickResult(
                tick_ns(last, self._fps), None, None, self._overdue(assembled.missing, tick_ns(last, self._fps))
            )
        chunk = self._runner.predict()
        chunk = replace(chunk, inference_ns=time.monotonic_ns() - started_ns)
        return TickResult(chunk.observation_stamp_ns, assembled.frame, chunk, ())

    def _overdue(self, missing: tuple[MissingInput, ...], stamp_ns: int) -> tuple[MissingInput, ...]:
        """Of the missing inputs the needed ones, without those that an episode just begun need not have sent yet."""
        needed = tuple(item for item in missing if item.needed)
        if not self._restart_ns:
            return needed
        begun_s = (stamp_ns - self._restart_ns) / NANOSECONDS
        return tuple(item for item in needed if item.reason != "silent" or begun_s > item.max_age_s)
