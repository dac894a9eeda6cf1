"""What a check finds: how bad, where, what, and what to do about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

Severity = Literal["warn", "fail"]
"""``fail``: readers refuse it or training goes wrong; ``warn``: somebody should look at it."""


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        family: Of checks.
        severity: How bad it is.
        what: One sentence.
        fix: What to do.
        episodes: Those that it is about, none where it is about the whole.
    """

    family: str
    severity: Severity
    what: str
    fix: str
    episodes: tuple[int, ...] = ()

    def __str__(self) -> str:
        return f"{self.severity.upper()} [{self.family}] {self.what} Fix: {self.fix}"


Report = Callable[..., None]
"""``report(severity, what, fix, episodes=())`` of one family."""


def exit_code(findings: Sequence[Finding], fail_on: Severity) -> int:
    """Return 1 where a finding is at least as bad as `fail_on`, else 0."""
    return int(any(finding.severity == "fail" or fail_on == "warn" for finding in findings))


def some(episodes: Sequence[int]) -> str:
    """Return the first of some numbers, for a sentence."""
    listed = ", ".join(map(str, episodes[:8]))
    return f"episode{'s' if len(episodes) > 1 else ''} {listed}{' and others' if len(episodes) > 8 else ''}"


def drop(episodes: Sequence[int]) -> str:
    """Return the command that leaves episodes out."""
    return f"vla_ros dataset delete-episodes DATASET --episodes {','.join(map(str, episodes[:20]))}"
