"""Checks of what training needs: episodes, statistics, clocks of the recording, each policy."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vla_ros.data_types import UserError
from vla_ros.dataset_tools.edits import read_report
from vla_ros.dataset_tools.validation.contents import Contents
from vla_ros.dataset_tools.validation.findings import Report, drop, some
from vla_ros.datasets import STATISTICS


def check_episodes(contents: Contents, report: Report) -> None:
    """Episodes that are short, or much shorter or longer than the others, and tasks with few."""
    dataset = contents.dataset
    lengths = np.array(dataset.lengths)
    single = [int(index) for index in np.flatnonzero(lengths < 2)]
    short = [int(index) for index in np.flatnonzero(lengths < max(5, dataset.fps))]
    if single:
        report("fail", f"{some(single)} have one frame.", drop(single), single)
    if short:
        report("warn", f"{some(short)} last less than a second.", drop(short), short)
    mean, deviation = float(lengths.mean()), float(lengths.std())
    if deviation > mean:
        report(
            "warn", "the lengths of the episodes vary by more than their mean.", "split long episodes at their tasks"
        )
    far = [int(index) for index in np.flatnonzero(np.abs(lengths - mean) > 3 * deviation)]
    if far:
        report("warn", f"{some(far)} are more than 3 standard deviations shorter or longer.", drop(far), far)
    counts = dict.fromkeys(dataset.tasks, 0)
    for index in range(dataset.n_episodes):
        for task in dataset.tasks_of(index):
            counts[task] = counts.get(task, 0) + 1
    used = [count for count in counts.values() if count]
    if used and max(used) > 10 * min(used):
        rare = min((task for task in counts if counts[task]), key=lambda task: counts[task])
        report(
            "warn",
            f"the most frequent task has {max(used)} episodes, '{rare[:60]}' has {min(used)}.",
            "record more of the rare ones, or weight them",
        )


def check_training(contents: Contents, report: Report) -> None:
    """An action, and statistics for normalisation."""
    dataset = contents.dataset
    if not any(key.startswith("action") for key in dataset.features):
        report("fail", "there is no action.", "record the commands; the contract's action.record says where")
    if not any(key.startswith("observation") for key in dataset.features):
        report("fail", "there is no observation.", "record cameras and the robot's state")
    for key in dataset.features:
        missing = [name for name in STATISTICS if name not in dataset.stats.get(key, {})]
        if missing:
            report(
                "warn",
                f"meta/stats.json has no {', '.join(missing[:5])} of {key}.",
                "they are computed when training starts; vla_ros dataset merge DATASET --output NEW stores them",
            )


def check_clocks(contents: Contents, report: Report) -> None:
    """What the conversion said of clocks, delays and trimmed ends."""
    entries = read_report(contents.dataset.root).get("episodes")
    if not isinstance(entries, Sequence):
        return
    rows = [entry for entry in entries if isinstance(entry, Mapping)]
    tick_s = 1.0 / contents.dataset.fps
    shifted = _where(rows, lambda row: abs(_number(row.get("clock_offset_s"))) > tick_s)
    if shifted:
        report(
            "warn",
            f"the recorder's clock differed from that of the stamps by more than a tick in {some(shifted)}; "
            "they were shifted by it.",
            "synchronise the clocks (chrony, PTP) before the next recording",
            shifted,
        )
    apart = _where(rows, lambda row: _spread(row.get("offsets_s")) > tick_s)
    if apart:
        report(
            "warn",
            f"the delays of the topics differ by more than a tick in {some(apart)}.",
            "find the slow driver in meta/conversion_report.json, or its clock",
            apart,
        )
    late = _where(rows, lambda row: _number(row.get("late_ticks")) > 0.05 * max(1.0, _number(row.get("frames"))))
    if late:
        report(
            "warn",
            f"over 5 % of the frames hold a sample that a live robot would not have waited for in {some(late)}.",
            "raise max_wait_s of the contract, or convert with --late-samples",
            late,
        )


def _where(rows: Sequence[Mapping[str, Any]], holds: Any) -> list[int]:
    return [int(row["episode_index"]) for row in rows if isinstance(row.get("episode_index"), int) and holds(row)]


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


def _spread(offsets: object) -> float:
    numbers = [_number(value) for value in offsets.values()] if isinstance(offsets, Mapping) else []
    return max(numbers) - min(numbers) if numbers else 0.0


def check_policies(contents: Contents, report: Report, policies: Sequence[str]) -> None:
    """Whether each policy, with the options it has by default, can be trained on what there is."""
    if not policies:
        return
    from vla_ros.policies.registry import policy_class, policy_config

    dataset = contents.dataset
    features = {**dataset.features}
    action = features.pop("action", None)
    for name in policies:
        if action is None:
            report("fail", f"policy '{name}' cannot be trained: there is no action.", "record the commands")
            continue
        try:
            kinds = policy_class(name).config_class.input_kinds
            inputs = {key: spec for key, spec in features.items() if kinds is None or spec.kind in kinds}
            config = policy_config(name, {"inputs": inputs, "action": action})
        except UserError as reason:
            report("fail", f"policy '{name}' cannot be trained with its default options: {reason}", "see the sentence")
            continue
        shorter = [index for index, length in enumerate(dataset.lengths) if length < config.action_horizon]
        if shorter:
            report(
                "warn",
                f"policy '{name}' predicts {config.action_horizon} steps, {some(shorter)} have fewer frames.",
                f"set a shorter action_horizon, or {drop(shorter)}",
                shorter,
            )
