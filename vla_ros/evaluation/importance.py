"""Which inputs a policy acts on: permutation importance on a dataset, by moment of the episode. No ROS, no training.

A policy can imitate well on recordings and fail on the robot because it reads its own plan from proprioception in place
of looking (causal confusion: de Haan et al., NeurIPS 2019, arXiv:1905.11979). The mean error on recordings does not
show it; what happens when its pictures are exchanged does. Here an input is exchanged for that of the next episode at
the same tick, so that each input by itself is one that occurs (permutation importance: Breiman, Machine Learning 45,
2001), and the change of the action is measured.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from vla_ros.checkpoint import Checkpoint
from vla_ros.contract import GOAL_IMAGE
from vla_ros.data_types import DatasetError
from vla_ros.datasets import EpisodeDataset, WindowSampler, check_fits, split_episodes
from vla_ros.evaluation.metrics import rounded
from vla_ros.training import load_recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PHASES_S = (0.0, 0.25, 0.75, 1.5, float("inf"))
"""Bounds of the phases of an episode, s. At its beginning nothing but the pictures says what is to be done."""

BATCH = 64
VARIES = 1e-6
"""Standard deviation of an action number, in its own unit, below which it is not looked at."""


@dataclass(frozen=True)
class Phase:
    """One part of the episodes.

    Attributes:
        begin_s: From here, in s since the episode's first frame.
        end_s: To here, exclusive; infinity for the rest.
        windows: How many were looked at; all numbers are means over them.
        error: Action number → mean absolute error of the step that is due at the observation, in its unit.
        bias: Action number → mean error with its sign, which adds up from tick to tick.
        change: What was exchanged → action number → mean absolute change of that step, in its unit.
    """

    begin_s: float
    end_s: float
    windows: int
    error: dict[str, float]
    bias: dict[str, float]
    change: dict[str, dict[str, float]]


@dataclass(frozen=True)
class ImportanceReport:
    """What was found.

    Attributes:
        checkpoint: Folder.
        dataset: Folder.
        episodes: Their numbers in the dataset.
        held_out: Whether the checkpoint was not trained on them.
        action_std: Action number → standard deviation in training, in its unit; 0 where it never varied.
        phases: Parts of the episodes, in order.
    """

    checkpoint: str
    dataset: str
    episodes: tuple[int, ...]
    held_out: bool
    action_std: dict[str, float]
    phases: tuple[Phase, ...]

    def in_deviations(self, values: dict[str, float]) -> float:
        """Return the mean over action numbers of `values`, each in standard deviations of its number."""
        shares = [values[name] / std for name, std in self.action_std.items() if std > 0.0]
        return float(np.mean(shares)) if shares else 0.0

    @property
    def groups(self) -> tuple[str, ...]:
        """What was exchanged."""
        return tuple(self.phases[0].change) if self.phases else ()

    def save(self, folder: Path) -> None:
        """Write ``importance.json`` and ``importance.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        for phase in content["phases"]:
            phase["end_s"] = phase["end_s"] if math.isfinite(phase["end_s"]) else None
        (folder / "importance.json").write_text(json.dumps(rounded(content, 6), indent=2) + "\n", encoding="utf-8")
        _draw(self).savefig(folder / "importance.png", dpi=110)


def measure_importance(
    checkpoint: Checkpoint,
    dataset: EpisodeDataset,
    *,
    windows: int = 160,
    on_phase: Callable[[str], None] = lambda _: None,
) -> ImportanceReport:
    """Exchange each input of a policy for another episode's, and see what becomes of its actions.

    The episodes are those that the checkpoint's training held out, where it was trained on this dataset, else all. A
    policy that draws samples draws the same ones each time; a policy with memory has that of the window only.

    Args:
        checkpoint: The policy.
        dataset: Recorded with the same robot.
        windows: At most so many of each phase, evenly spread.
        on_phase: Told of each phase that is done.

    Raises:
        CheckpointError: The dataset is of another robot.
        DatasetError: There are fewer than two episodes.
    """
    if not dataset.contract_path.is_file():
        check_fits(dataset, checkpoint.contract, [key for key in checkpoint.processors.inputs if key != GOAL_IMAGE])
    elif dataset.contract().hash != checkpoint.contract.hash:
        checkpoint.check_robot(dataset.contract())
    episodes, held_out = _episodes(checkpoint, dataset)
    if len(episodes) < 2:
        raise DatasetError(f"{dataset.root}: inputs are exchanged between episodes, and it has only {len(episodes)}.")
    sampler = _sampler(checkpoint, dataset, episodes)
    groups = _groups(checkpoint, sampler)
    names = checkpoint.processors.action.names
    phases = []
    for begin_s, end_s, own, others in _phases(sampler, dataset.fps, windows):
        errors, changes = [], {group: np.zeros(len(names)) for group in groups}
        for first in range(0, len(own), BATCH):
            here = slice(first, first + BATCH)
            raw, other = sampler.batch(own[here]), sampler.batch(others[here])
            action = _due_action(checkpoint, raw, raw)
            errors.append(action - raw["action"][:, 0])
            for group, keys in groups.items():
                changed = _due_action(checkpoint, {**raw, **{key: other[key] for key in keys}}, raw)
                changes[group] += np.abs(changed - action).sum(axis=0)
        means = {group: _named(names, total / len(own)) for group, total in changes.items()}
        error = np.concatenate(errors)
        absolute, bias = _named(names, np.abs(error).mean(axis=0)), _named(names, error.mean(axis=0))
        phases.append(Phase(begin_s, end_s, len(own), absolute, bias, means))
        on_phase(phase_name(phases[-1]))
    spread = checkpoint.processors.statistics[checkpoint.processors.action.key]["std"].numpy()
    stds = _named(names, np.where(spread > VARIES, spread, 0.0))
    return ImportanceReport(str(checkpoint.path), str(dataset.root), episodes, held_out, stds, tuple(phases))


def phase_name(phase: Phase) -> str:
    """Return the phase's bounds as text."""
    return f"from {phase.begin_s:g} s" if phase.end_s == float("inf") else f"{phase.begin_s:g}–{phase.end_s:g} s"


def table_rows(report: ImportanceReport) -> list[tuple[str, str]]:
    """Return the short table: (phase, values); a first row names the columns."""
    columns = ["error", *report.groups]
    widths = [max(7, len(column)) for column in columns]
    rows = [("time in episode", "  ".join(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True)))]
    for phase in report.phases:
        values = [report.in_deviations(numbers) for numbers in (phase.error, *phase.change.values())]
        texts = (f"{value:>{width}.2f}" for value, width in zip(values, widths, strict=True))
        rows.append((phase_name(phase), "  ".join(texts)))
    return rows


def _episodes(checkpoint: Checkpoint, dataset: EpisodeDataset) -> tuple[tuple[int, ...], bool]:
    """Return the episodes to look at, and whether training held them out."""
    recipe = checkpoint.path / "recipe.yaml"
    if recipe.is_file() and checkpoint.metadata.get("dataset", {}).get("fingerprint") == dataset.fingerprint():
        options = load_recipe(recipe)
        held_out = split_episodes(dataset.n_episodes, options.dataset.validation_fraction, options.seed)[1]
        if len(held_out) > 1:
            return held_out, True
    return tuple(range(dataset.n_episodes)), False


def _sampler(checkpoint: Checkpoint, dataset: EpisodeDataset, episodes: Sequence[int]) -> WindowSampler:
    keys, config = list(checkpoint.processors.inputs), checkpoint.policy.config
    goal = checkpoint.contract.goal if GOAL_IMAGE in keys else None
    return WindowSampler(
        dataset,
        episodes,
        [key for key in keys if key != GOAL_IMAGE],
        config.n_obs_steps,
        config.action_horizon,
        goal_camera=None if goal is None else goal.camera,
    )


def _groups(checkpoint: Checkpoint, sampler: WindowSampler) -> dict[str, tuple[str, ...]]:
    """Return what is exchanged: each input, all pictures of the present where there are several, the instruction."""
    inputs = checkpoint.processors.inputs
    groups: dict[str, tuple[str, ...]] = {key: (key,) for key in inputs}
    pictures = tuple(key for key, spec in inputs.items() if spec.kind == "image" and key != GOAL_IMAGE)
    if len(pictures) > 1:
        groups["all pictures"] = pictures
    if checkpoint.processors.text is not None and len(set(sampler.tasks)) > 1:
        groups["instruction"] = ("task",)
    return groups


def _phases(
    sampler: WindowSampler, fps: int, most: int
) -> Iterator[tuple[float, float, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield for each phase that has any: its bounds, its windows, and those of the next episode at the same tick."""
    lengths = np.bincount(sampler.episode_of_frame)
    first = np.cumsum(lengths) - lengths
    tick = np.arange(len(sampler)) - first[sampler.episode_of_frame]
    for begin_s, end_s in itertools.pairwise(PHASES_S):
        inside = np.flatnonzero((tick >= begin_s * fps) & (tick < end_s * fps))
        pairs = [(i, j) for i in inside if (j := _partner(sampler.episode_of_frame[i], tick[i], lengths, first)) >= 0]
        if pairs:
            chosen = np.array(pairs)[np.linspace(0, len(pairs) - 1, min(most, len(pairs))).round().astype(int)]
            yield begin_s, end_s, chosen[:, 0], chosen[:, 1]


def _partner(episode: int, tick: int, lengths: NDArray[np.int64], first: NDArray[np.int64]) -> int:
    """Return the frame of that tick in the next episode that is long enough, or −1."""
    count = len(lengths)
    for step in range(1, count):
        other = (episode + step) % count
        if lengths[other] > tick:
            return int(first[other] + tick)
    return -1


@torch.no_grad()
def _due_action(checkpoint: Checkpoint, seen: dict[str, Any], measured: dict[str, Any]) -> NDArray[np.float64]:
    """Return the first step of every predicted chunk, float64 [B, A], in the contract's units.

    Args:
        checkpoint: The policy.
        seen: What it is shown.
        measured: Where the robot was, to which its actions may be relative.
    """
    processors = checkpoint.processors
    generator = torch.Generator(processors.device).manual_seed(0)
    chunk = checkpoint.policy.predict_action_chunk(processors.observation(seen), generator=generator)
    return processors.actions(chunk.actions.float(), measured)[:, 0].cpu().double().numpy()


def _named(names: Sequence[str], values: NDArray[np.floating[Any]]) -> dict[str, float]:
    return dict(zip(names, map(float, values), strict=True))


def _draw(report: ImportanceReport) -> "Figure":
    """Draw a group of bars per phase: the error, then what each exchange changes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    axes = figure.subplots()
    series = [("error on the recording", [phase.error for phase in report.phases], "#b8b8b8")]
    colours = ("#3b6fb6", "#d1803a", "#4a9a6a", "#8a5fb0", "#b0504f", "#a3a13a")
    for index, group in enumerate(report.groups):
        values = [phase.change[group] for phase in report.phases]
        series.append((f"{group.removeprefix('observation.')} exchanged", values, colours[index % len(colours)]))
    width = 0.84 / len(series)
    for index, (label, values, colour) in enumerate(series):
        places = np.arange(len(report.phases)) + (index - (len(series) - 1) / 2) * width
        axes.bar(places, [report.in_deviations(numbers) for numbers in values], width * 0.92, color=colour, label=label)
    axes.set_xticks(range(len(report.phases)), [phase_name(phase) for phase in report.phases])
    axes.set_xlabel("time in the episode")
    axes.set_ylabel("change of the action\n[standard deviations of the action]")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis="y", alpha=0.25, linewidth=0.6)
    axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{report.checkpoint}: what its actions depend on", fontsize=10)
    return figure
