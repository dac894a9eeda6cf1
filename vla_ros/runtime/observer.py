"""Which tick is next, whether its samples are there, and what was seen at it. No thread, no policy.

Observing does not wait for a prediction under way: a bad input is known at its own tick, however slow the policy is.
"""

import threading
from dataclasses import dataclass

from vla_ros.contract import NEVER_TOO_OLD_S
from vla_ros.data_types import NANOSECONDS, ActionChunk, Frame, first_tick_at_or_after, tick_ns
from vla_ros.runtime.clock import Clock
from vla_ros.runtime.policy_runner import PolicyRunner
from vla_ros.streams import MissingInput, ObservationPipeline

STAMPS_AHEAD_NS = NANOSECONDS // 2
"""How far a tick may lie ahead of the clock, which under simulated time learns late what time it is."""


@dataclass(frozen=True)
class TickResult:
    """What became of one tick.

    Attributes:
        stamp_ns: The tick.
        frame: What was observed, None when a needed input is missing.
        missing: The needed inputs that are missing.
        chunk: What was decided on it; None before that, and where nothing is.
    """

    stamp_ns: int
    frame: Frame | None
    missing: tuple[MissingInput, ...] = ()
    chunk: ActionChunk | None = None


class Observer:
    """Takes tick after tick from the pipeline into the runner's history.

    One thread calls `observe`; any thread may call `begin_episode` and `episode_at`.

    Args:
        pipeline: Where samples are stored.
        runner: Whose history the frames go to.
        clock: The runtime's time.
        fps: Ticks per second.
        max_wait_s: How long after a tick its samples are waited for at most.
        follows_episodes: Whether a tick also waits until `episode_at` has reached it.

    Attributes:
        result: What was observed last, None before the first tick.
    """

    def __init__(
        self,
        pipeline: ObservationPipeline,
        runner: PolicyRunner,
        clock: Clock,
        *,
        fps: int,
        max_wait_s: float,
        follows_episodes: bool,
    ) -> None:
        self._pipeline, self._runner, self._clock, self._fps = pipeline, runner, clock, fps
        self._max_wait_ns = round(max_wait_s * NANOSECONDS)
        self._follows_episodes = follows_episodes
        self._lock = threading.Lock()
        self._next: int | None = None  # index of the next tick
        self._epoch, self._start_ns, self._episode_ns = 0, 0, -1
        self.result: TickResult | None = None

    def begin_episode(self, start_ns: int = 0, *, again: bool = False, clock_went_back: bool = False) -> None:
        """Forget what was observed: an episode begins.

        Args:
            start_ns: First moment of the episode; ticks before it are skipped. 0: from the next tick on.
            again: Whether the newest tick is to be observed again; nothing was decided on it yet.
            clock_went_back: Whether ticks are to be counted anew from the present.
        """
        with self._lock:
            self._epoch += 1
            self._start_ns = start_ns
            self._runner.reset()
            if clock_went_back:
                self._next, self._episode_ns, self.result = None, -1, None
            if self._next is not None and again:
                self._next -= 1
            if self._next is not None and start_ns:
                self._next = min(self._next, first_tick_at_or_after(start_ns, self._fps))

    def forget(self) -> None:
        """Start over with the next tick, as after construction."""
        self.begin_episode()
        with self._lock:
            self._next, self.result = None, None

    def episode_at(self, stamp_ns: int) -> None:
        """Say that the robot's episode at `stamp_ns` is known."""
        self._episode_ns = stamp_ns

    def patience_s(self, longest_s: float) -> float:
        """How long nothing can be observed unless a sample comes, s: until the next tick stops waiting, at most."""
        index = self._next
        if index is None or self._clock.is_simulated:
            return longest_s
        stamp_ns = tick_ns(index, self._fps)
        wait_ns = self._max_wait_ns
        if not self._follows_episodes or self._episode_ns >= stamp_ns:
            wait_ns = max(0, self._pipeline.wait_ns(stamp_ns, by_delay=True))
        return min(max((stamp_ns + wait_ns - self._clock.now_ns()) / NANOSECONDS, 0.0), longest_s)

    def observe(self, *, every_tick: bool = False) -> TickResult | None:
        """Observe the next tick whose samples are there.

        Args:
            every_tick: Take the oldest such tick, for those who must not miss one. Otherwise the newest; of those
                between, only as many are observed as the history holds.

        Returns:
            What was found, None when no tick is complete, or when an episode began meanwhile.
        """
        now_ns = self._clock.now_ns()
        if now_ns <= 0:
            return None  # simulated time has not begun
        with self._lock:
            epoch, start_ns, awaited = self._epoch, self._start_ns, self._awaited(now_ns)
        if tick_ns(awaited, self._fps) > now_ns + STAMPS_AHEAD_NS or not self._complete(awaited, now_ns):
            return None
        newest = awaited if every_tick else self._newest_complete(awaited, now_ns)
        first = max(awaited, newest - self._runner.predictor.spec.n_obs_steps + 1)
        result = None
        for index in range(first, newest + 1):
            result = self._observe_tick(index, epoch, start_ns)
        return result

    def _awaited(self, now_ns: int) -> int:
        """Return the next tick's index; the caller holds the lock."""
        if self._next is None or self._next > now_ns * self._fps // NANOSECONDS + 1 + self._fps:
            # A second ahead of the clock: system time was set back, and whoever watches it has not said so yet
            self._runner.reset()
            self._next = first_tick_at_or_after(now_ns, self._fps)
        return self._next

    def _newest_complete(self, awaited: int, now_ns: int) -> int:
        newest = now_ns * self._fps // NANOSECONDS + 1  # a robot may send a tick's samples before its clock says so
        return next((k for k in range(newest, awaited, -1) if self._complete(k, now_ns)), awaited)

    def _complete(self, index: int, now_ns: int) -> bool:
        stamp_ns = tick_ns(index, self._fps)
        if self._follows_episodes and self._episode_ns < stamp_ns and now_ns < stamp_ns + self._max_wait_ns:
            return False
        return self._pipeline.complete(stamp_ns, now_ns, by_delay=not self._clock.is_simulated)

    def _observe_tick(self, index: int, epoch: int, start_ns: int) -> TickResult | None:
        """Assemble one tick; it counts unless an episode began meanwhile or begins after it."""
        stamp_ns = tick_ns(index, self._fps)
        result = None
        if stamp_ns >= start_ns:
            assembled = self._pipeline.assemble(stamp_ns)
            missing = _overdue(assembled.missing, stamp_ns, start_ns) if assembled.frame is None else ()
            result = TickResult(stamp_ns, assembled.frame, missing)
        with self._lock:
            if epoch != self._epoch:
                return None
            self._next = index + 1
            if result is not None:
                if result.frame is not None:
                    self._runner.observe(result.frame)
                self.result = result
        return result


def _overdue(missing: tuple[MissingInput, ...], stamp_ns: int, start_ns: int) -> tuple[MissingInput, ...]:
    """Of the missing inputs the needed ones, without those that an episode just begun need not have sent yet."""
    needed = tuple(item for item in missing if item.needed)
    if not start_ns:
        return needed
    begun_s = (stamp_ns - start_ns) / NANOSECONDS
    return tuple(item for item in needed if item.reason != "silent" or begun_s > _patience_s(item))


def _patience_s(item: MissingInput) -> float:
    """For how long an input need not have sent anything; a goal is not waited for in silence."""
    return 0.0 if item.max_age_s >= NEVER_TOO_OLD_S else item.max_age_s
