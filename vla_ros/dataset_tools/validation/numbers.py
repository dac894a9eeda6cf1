"""Checks of the numbers: actions, distributions, anomalies, action/state lag."""

import numpy as np
from numpy.typing import NDArray

from vla_ros.dataset_tools.validation.contents import Contents
from vla_ros.dataset_tools.validation.findings import Report, drop, some

_FROZEN, _JUMP, _OUTLIER, _SHIFT = 0.05, 8.0, 10.0, 3.0
_AT_LIMIT_WARN, _AT_LIMIT_FAIL = 0.5, 0.99
_MOST_LAG_S = 1.0
_CLEAR = 0.7
"""Correlation from which on a lag is believed."""


def check_actions(contents: Contents, report: Report) -> None:
    """Actions that are not finite, stand at a limit, do not change for long, or jump."""
    for key in contents.action_keys:
        rows = contents.all_rows(key)
        names = contents.names(key)
        for column, name in enumerate(names):
            _check_limits(rows[:, column], f"{key} {name}", report)
        frozen = [index for index, own in contents.rows(key) if longest_run(own) >= max(2, _FROZEN * len(own))]
        if frozen:
            report(
                "warn",
                f"{key} is the same in at least 5 % of the frames in a row in {some(frozen)}.",
                "trim or delete episodes whose demonstrator waited; where a gripper alone moves this is no fault",
                frozen,
            )
        jumps = jumping(contents, key)
        if jumps:
            report(
                "warn",
                f"{key} jumps by more than 8 standard deviations of its steps in {some(jumps)}.",
                f"look at them in `vla_ros dataset view`; {drop(jumps)}",
                jumps,
            )


def _check_limits(values: NDArray[np.float64], name: str, report: Report) -> None:
    low, high = float(values.min()), float(values.max())
    if len(values) <= 10 or low == high or len(np.unique(values[:1000])) <= 2:
        return  # a constant is told elsewhere, and a switch has two values only
    for limit, word in ((low, "smallest"), (high, "largest")):
        ratio = float(np.mean(values == limit))
        if ratio > _AT_LIMIT_WARN:
            report(
                "fail" if ratio > _AT_LIMIT_FAIL else "warn",
                f"{name} has its {word} value {limit:.4g} in {ratio:.0%} of the frames.",
                "it may be clipped: compare the limits of the teleoperation with those of the robot",
            )


def longest_run(rows: NDArray[np.float64]) -> int:
    """Return the length of the longest run of equal rows, 0 where none repeats."""
    same = np.all(rows[1:] == rows[:-1], axis=1)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def jumping(contents: Contents, key: str) -> list[int]:
    """Return the episodes in which a step is more than 8 standard deviations of all steps, mean over the numbers."""
    steps = {index: np.diff(own, axis=0) for index, own in contents.rows(key) if len(own) > 2}
    if not steps:
        return []
    deviation = usual_deviation(np.concatenate(list(steps.values())))
    deviation[deviation == 0] = 1.0
    return [index for index, own in steps.items() if (np.abs(own) / deviation).mean(axis=1).max() > _JUMP]


def usual_deviation(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation [S] of the middle 98 % of some rows, at least a quarter of that of all.

    A value that is far off widens the deviation of few rows so much that it is within 10 of them itself.
    """
    low, high = np.quantile(rows, [0.01, 0.99], axis=0)
    inside = np.where((rows >= low) & (rows <= high), rows, np.nan)
    result: NDArray[np.float64] = np.maximum(np.nanstd(inside, axis=0), 0.25 * rows.std(axis=0))
    return result


def check_distribution(contents: Contents, report: Report) -> None:
    """Numbers that never change, outliers, and stored statistics that are not those of the rows."""
    for key in contents.number_keys:
        rows = contents.all_rows(key)
        deviation = rows.std(axis=0)
        constant = [name for name, value in zip(contents.names(key), deviation, strict=True) if value == 0]
        if constant:
            report(
                "warn",
                f"{key}: {', '.join(constant[:8])} never changes in any episode.",
                "a sensor or a joint that does not work, or one that the task does not need: "
                f"`vla_ros dataset remove-feature DATASET --features {key}` if it is all of it",
            )
        usual = usual_deviation(rows)
        safe = np.where(usual > 0, usual, 1.0)
        switches = np.array([len(np.unique(rows[:, column])) <= 2 for column in range(rows.shape[1])])
        far = np.flatnonzero(((np.abs(rows - np.median(rows, axis=0)) / safe > _OUTLIER) & ~switches).any(axis=1))
        if len(far):
            episodes = contents.episodes_of(far)
            report(
                "warn",
                f"{key} is more than 10 standard deviations from its median in {len(far)} frames of {some(episodes)}.",
                f"look at them in `vla_ros dataset view`; {drop(episodes)}",
                episodes,
            )
        stored = contents.dataset.stats.get(key, {})
        for name, own in (("mean", rows.mean(axis=0)), ("std", deviation), ("min", rows.min(0)), ("max", rows.max(0))):
            if name in stored and not np.allclose(stored[name], own, rtol=1e-3, atol=1e-5 + 1e-3 * float(safe.max())):
                report(
                    "fail",
                    f"meta/stats.json: {name} of {key} is not that of the rows.",
                    "write the dataset anew with its statistics: vla_ros dataset merge DATASET --output NEW",
                )


def check_anomalies(contents: Contents, report: Report) -> None:
    """Numbers that stand still in most episodes, episodes that are nearly the same, and a drift over the dataset."""
    total = contents.dataset.n_episodes
    for key in contents.number_keys:
        for column, name in enumerate(contents.names(key)):
            still = [
                index
                for index, own in contents.rows(key)
                if len(own) > 11 and own[:, column].std() > 0 and np.mean(np.diff(own[:, column]) == 0) > 0.8
            ]
            if len(still) > 0.8 * total:
                report(
                    "warn",
                    f"{key} {name} stands still for over 80 % of the time in {len(still)} of {total} episodes.",
                    "an actuator that is stuck or not needed, or a sensor that is slower than the dataset's rate",
                )
        _check_drift(contents, key, report)
    for key in contents.action_keys:
        marks: dict[bytes, list[int]] = {}
        for index, own in contents.rows(key):
            mark = np.round(np.concatenate([own[:10].ravel(), own[-10:].ravel(), [len(own)]]), 6) + 0.0
            marks.setdefault(mark.tobytes(), []).append(index)
        for same in marks.values():
            if len(same) > 1:
                report(
                    "warn",
                    f"{some(same)} have the same {key}.",
                    f"one recording that was taken twice: {drop(same[1:])}",
                    same[1:],
                )


def _check_drift(contents: Contents, key: str, report: Report) -> None:
    rows = [own for _, own in contents.rows(key)]
    quarter = len(rows) // 4
    if len(rows) < 10:
        return
    first, last = np.concatenate(rows[:quarter]), np.concatenate(rows[-quarter:])
    deviation = first.std(axis=0)
    shift = np.abs(last.mean(axis=0) - first.mean(axis=0)) / np.where(deviation > 0, deviation, 1.0)
    worst = int(np.argmax(shift))
    if shift[worst] > _SHIFT:
        report(
            "warn",
            f"{key} {contents.names(key)[worst]} moved by {shift[worst]:.1f} standard deviations between the first and "
            "the last quarter of the episodes.",
            "the setting or the operator changed: shuffle before splitting, and record the first setting again",
        )


def check_lag(contents: Contents, report: Report) -> None:
    """By how many frames the state follows the action, number by number of the same name."""
    state = next((key for key in contents.number_keys if key == "observation.state"), None)
    if state is None or "action" not in contents.number_keys:
        return
    common = [name for name in contents.names("action") if name in contents.names(state)]
    if contents.names("action") == [str(n) for n in range(len(contents.names("action")))]:
        common = []  # numbers without a name say nothing
    lags = {name: lag for name in common if (lag := _lag(contents, state, name)) is not None}
    if not lags:
        return
    fps = contents.dataset.fps
    for name, lag in lags.items():
        if lag < 0:
            report(
                "fail",
                f"action {name} follows observation.state by {-lag} frames ({-lag / fps:.2f} s): a command cannot.",
                "the clocks of the topics differ, or the action is a state that was recorded late: look at the "
                "conversion report",
            )
        elif lag > 0.5 * fps:
            report(
                "warn",
                f"observation.state follows action {name} by {lag} frames ({lag / fps:.2f} s).",
                "check the controller and the clocks; a policy has to predict that far ahead",
            )


def _lag(contents: Contents, state: str, name: str) -> int | None:
    """Return the delay, in frames, at which the steps of two numbers correlate best; None where none is clear."""
    a, s = contents.names("action").index(name), contents.names(state).index(name)
    most = max(1, round(_MOST_LAG_S * contents.dataset.fps))
    pairs = [
        (np.diff(one[:, a]), np.diff(two[:, s]))
        for (_, one), (_, two) in zip(contents.rows("action"), contents.rows(state), strict=True)
        if len(one) > 2 * most
    ]
    if not pairs:
        return None
    best, lag = 0.0, 0
    for shift in range(-most, most + 1):
        early = [one[max(0, -shift) : len(one) - max(0, shift)] for one, _ in pairs]
        late = [two[max(0, shift) : len(two) - max(0, -shift)] for _, two in pairs]
        one, two = np.concatenate(early), np.concatenate(late)
        if one.std() > 0 and two.std() > 0:
            value = float(np.corrcoef(one, two)[0, 1])
            if value > best + 1e-9:
                best, lag = value, shift
    return lag if best > _CLEAR else None
