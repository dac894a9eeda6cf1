"""Runs the families of checks over a dataset and gathers what they find."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from vla_ros.data_types import DatasetError
from vla_ros.dataset_tools.validation.contents import Contents
from vla_ros.dataset_tools.validation.files import (
    check_cameras,
    check_consistency,
    check_finite,
    check_metadata,
    check_portability,
    check_times,
)
from vla_ros.dataset_tools.validation.findings import Finding, Severity, some
from vla_ros.dataset_tools.validation.numbers import check_actions, check_anomalies, check_distribution, check_lag
from vla_ros.dataset_tools.validation.training import (
    check_clocks,
    check_episodes,
    check_policies,
    check_training,
)
from vla_ros.datasets import EpisodeDataset

_CHECKS: dict[str, Callable[..., None]] = {
    "metadata": check_metadata,
    "times": check_times,
    "finite": check_finite,
    "actions": check_actions,
    "cameras": check_cameras,
    "distribution": check_distribution,
    "episodes": check_episodes,
    "consistency": check_consistency,
    "training": check_training,
    "anomalies": check_anomalies,
    "portability": check_portability,
    "lag": check_lag,
    "clocks": check_clocks,
    "policies": check_policies,
}
FAMILIES = (*_CHECKS, "summary")
"""Names of the families; ``summary`` gathers the findings of the others by episode."""


def validate(root: Path, policies: Sequence[str] = ()) -> list[Finding]:
    """Check a dataset.

    Args:
        root: Its folder.
        policies: Names of policies that are to be trained on it.

    Returns:
        The findings, the worst first within each family.
    """
    findings: list[Finding] = []

    def report(family: str, severity: Severity, what: str, fix: str, episodes: Sequence[int] = ()) -> None:
        findings.append(Finding(family, severity, what, fix, tuple(episodes)))

    try:
        contents = Contents(EpisodeDataset(root))
    except DatasetError as reason:
        report("metadata", "fail", str(reason), "see the sentence; vla_ros dataset repair keeps the verified episodes")
        return findings
    for family, check in _CHECKS.items():
        own = partial(report, family)
        try:
            if family == "policies":
                check(contents, own, policies)
            else:
                check(contents, own)
        except DatasetError as reason:
            own("fail", str(reason), "see the sentence; vla_ros dataset repair keeps the verified episodes")
    _summarise(findings, partial(report, "summary"))
    return findings


def _summarise(findings: Sequence[Finding], report: Callable[..., None]) -> None:
    """Name the episodes that three families or more complain about."""
    families: dict[int, set[str]] = {}
    for finding in findings:
        for index in finding.episodes:
            families.setdefault(index, set()).add(finding.family)
    bad = sorted(index for index, own in families.items() if len(own) > 2)
    if bad:
        named = ", ".join(sorted(set().union(*(families[index] for index in bad))))
        report(
            "warn",
            f"{some(bad)} are named by several families ({named}).",
            f"vla_ros dataset delete-episodes DATASET --episodes {','.join(map(str, bad[:20]))}",
            bad,
        )
