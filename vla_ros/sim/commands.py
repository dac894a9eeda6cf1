"""Which command a simulated robot obeys at a moment, and when it halts for want of one.

Owns the rules of a servo-like receiver: refusals by time, the moment a command takes effect, the halt. Time is an
argument, in ns of the simulation. What a command says is the robot's business.
"""

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vla_ros.data_types import NANOSECONDS, UserError

MAX_LEAD_NS = NANOSECONDS
"""A command that takes effect later than this from now is a mistake of clocks, not a plan."""


class CommandRefusedError(UserError):
    """A robot does not obey a command.

    Attributes:
        reason: One word, by which refusals are counted.
    """

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


@dataclass(frozen=True)
class SimCommand:
    """One command as it arrived.

    Attributes:
        stamp_ns: The moment it takes effect.
        order: What `vla_ros.sim.Robot.command` is given: float64 [A], or what the robot has read itself.
        period_ns: Time over which it is to be carried out.
        observation_stamp_ns: Observation it answers; None where the message cannot carry one.
    """

    stamp_ns: int
    order: Any
    period_ns: int
    observation_stamp_ns: int | None = None


class CommandBuffer:
    """Takes commands from any thread; says what to do from the simulation's.

    A command is obeyed from its stamp until the next one, no longer than the timeout or, where it is longer, the period
    over which it is to be carried out: then the robot halts.

    Args:
        timeout_ns: Age at which a command is stale: not accepted any more, and no longer obeyed.
    """

    def __init__(self, timeout_ns: int) -> None:
        self._timeout_ns = timeout_ns
        self.changed = threading.Condition()
        """Notified on every accepted command; guards everything inside."""
        self.refused: Counter[str] = Counter()
        """Refused commands by kind of reason."""
        self.accepted = 0
        self.clear(0)

    def clear(self, not_before_ns: int) -> None:
        """Begin an episode: forget all commands, refuse what was meant for the time before."""
        with self.changed:
            self._not_before_ns = not_before_ns
            self._pending: list[SimCommand] = []
            self._active: SimCommand | None = None

    def drop(self) -> None:
        """Forget all commands: the robot is halted until a new one comes."""
        with self.changed:
            self._pending.clear()
            self._active = None

    def offer(self, command: SimCommand, now_ns: int) -> str | None:
        """Accept a command, or return in one sentence why not."""
        return self.offer_plan([command], now_ns)

    def offer_plan(self, plan: Sequence[SimCommand], now_ns: int) -> str | None:
        """Accept commands that follow each other, as a trajectory's; several replace what was planned before.

        Returns:
            Why not, in one sentence, judged by the last one's age and the first one's lead; None where accepted.
        """
        with self.changed:
            refusal = self._refusal(plan, now_ns)
            if refusal is not None:
                self.refused[refusal[0]] += 1
                return refusal[1]
            self.accepted += 1
            if len(plan) > 1:
                self._pending.clear()
            self._pending.extend(plan)
            self.changed.notify_all()
            return None

    def refuse(self, error: CommandRefusedError) -> None:
        """Count a command that did not get this far."""
        with self.changed:
            self.refused[error.reason] += 1

    def _refusal(self, plan: Sequence[SimCommand], now_ns: int) -> tuple[str, str] | None:
        first, last = plan[0], plan[-1]
        stamp = f"stamp {last.stamp_ns / NANOSECONDS:.3f} s"
        age_ns, lead_ns = now_ns - last.stamp_ns, first.stamp_ns - now_ns
        if age_ns > self._timeout_ns:
            return "stale", (
                f"{stamp} is {age_ns / NANOSECONDS:.3f} s old, limit {self._timeout_ns / NANOSECONDS:.3f} s; "
                "stamps are simulated time (use_sim_time)"
            )
        if lead_ns > MAX_LEAD_NS:
            return "future", (
                f"{stamp} is {lead_ns / NANOSECONDS:.3f} s ahead; stamps are simulated time (use_sim_time)"
            )
        observed_ns = first.observation_stamp_ns
        if last.stamp_ns < self._not_before_ns or (observed_ns and observed_ns < self._not_before_ns):
            return "earlier_episode", "it was decided on the episode before the reset"
        return None

    def answered(self, tick_ns: int) -> bool:
        """Whether a command for a tick is there that was decided on an observation; for a lock-step wait.

        The observation may be an older one, as of a policy that follows a chunk for several steps. A command of zero
        motion, which is decided on none, is no answer.
        """
        candidates = [*self._pending, *([self._active] if self._active else [])]
        return any(
            c.stamp_ns >= tick_ns and (c.observation_stamp_ns is None or 0 < c.observation_stamp_ns <= tick_ns)
            for c in candidates
        )

    def command_at(self, step_start_ns: int) -> SimCommand | None:
        """Return what is to be obeyed in the step that begins at `step_start_ns`; None to stand still.

        Args:
            step_start_ns: Not before the last call's.
        """
        with self.changed:
            self._activate(step_start_ns)
            command = self._active
            if command is None:
                return None
            lasts_ns = max(self._timeout_ns, command.period_ns)  # as long as it takes to carry it out
            if step_start_ns - command.stamp_ns >= lasts_ns:
                return None
            return command

    def _activate(self, now_ns: int) -> None:
        """Make the newest command that is due the active one."""
        due = [c for c in self._pending if c.stamp_ns <= now_ns]
        if not due:
            return
        self._pending = [c for c in self._pending if c.stamp_ns > now_ns]
        newest = max(reversed(due), key=lambda c: c.stamp_ns)  # of equal stamps the one that came last
        if self._active is not None and newest.stamp_ns < self._active.stamp_ns:
            return  # overtaken on the way
        self._active = newest

    def counts(self) -> Mapping[str, int]:
        """Return accepted and refused commands so far, by reason."""
        with self.changed:
            return {"accepted": self.accepted, **self.refused}
