"""Case 8: whether a training loop is fed, against lerobot's loader; and that memory does not grow with the data."""

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.arms import Bench
from bench.cases.case import Case, Measured
from bench.children.training import CAMERA, FPS, NUMBERS, SIDE, STATE, features
from bench.plans import TrainingPlan, TrainingReport, read_json, write_json
from bench.results import Figure, Ratio, Target
from bench.statistics import interleaved, ratios
from vla_ros.data_types import DatasetError
from vla_ros.datasets import DatasetWriter, EpisodeDataset

LEROBOT = "VLA_ROS_LEROBOT_PYTHON"
"""Environment variable: Python of an environment with lerobot-dataset 0.4.4, whose dependencies contradict ours."""

SHORT, LONG = 10_000, 100_000
EPISODE = 200
_WORKERS, _BATCH = 2, 64
_START_S = 600.0


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Read and train with each loader, and read both sizes of dataset."""
    short = write_dataset(bench.folder / f"training_{SHORT}", SHORT)
    python = os.environ.get(LEROBOT, "")
    arms: dict[str, Callable[[], TrainingReport]] = {}
    for loader in ("vla_ros", "lerobot") if python else ("vla_ros",):
        for train in (False, True):
            name = f"{loader} {'steps' if train else 'windows'}"
            arms[name] = partial(run_loader, bench, short, seconds, loader, train=train)
    arms["uncached windows"] = partial(run_loader, bench, short, seconds, "vla_ros", train=False, cache_bytes=0)
    found = interleaved(arms, repeats)
    rates = {name: [report.steps / report.seconds for report in reports] for name, reports in found.items()}
    windows = {name: [rate * _BATCH for rate in own] for name, own in rates.items() if "windows" in name}

    # H.264 here, which is quicker to write; memory is that of the index and of what is decoded, in either codec
    sizes = {
        name: write_dataset(bench.folder / f"training_h264_{frames}", frames, "h264")
        for name, frames in (("10k", SHORT), ("100k", LONG))
    }
    memory = {
        name: partial(run_loader, bench, root, 1e9, "vla_ros", train=True, steps=100) for name, root in sizes.items()
    }
    peaks = {name: [report.peak_bytes / 1e6 for report in own] for name, own in interleaved(memory, 1).items()}
    results = [
        Ratio(
            "memory 100k ÷ 10k",
            "peak memory of training on 100,000 frames ÷ on 10,000",
            ratios(peaks["100k"], peaks["10k"]),
            Target("<=", 1.1),
        )
    ]
    if python:
        target = Target(">=", 1.0)
        results += [
            Ratio(
                "windows, vla_ros ÷ lerobot",
                "windows/s read",
                ratios(windows["vla_ros windows"], windows["lerobot windows"]),
                target,
            ),
            Ratio(
                "steps, vla_ros ÷ lerobot",
                "training steps/s of the same ACT, loader included",
                ratios(rates["vla_ros steps"], rates["lerobot steps"]),
                target,
            ),
        ]
    figures = [Figure(name, "windows/s", values) for name, values in windows.items()]
    figures += [Figure(name, "steps/s", values) for name, values in rates.items() if "steps" in name]
    figures += [Figure(f"peak memory, {name} frames", "MB", values) for name, values in peaks.items()]
    note = (
        f"One {SIDE}×{SIDE} camera as AV1 video, batches of {_BATCH}, {_WORKERS} workers; ACT as in "
        "config/policies/act_small.yaml."
    )
    skipped = f"lerobot was not measured: {LEROBOT} names no Python with lerobot-dataset 0.4.4."
    return Measured(tuple(results), tuple(figures), (note,) if python else (note, skipped))


def write_dataset(root: Path, frames: int, codec: str = "av1") -> Path:
    """Write a dataset of a moving pattern unless it is there already."""
    try:
        if EpisodeDataset(root).n_frames == frames:
            return root
    except DatasetError:
        pass
    rng = np.random.default_rng(0)
    pattern = rng.integers(0, 256, (SIDE // 8, SIDE // 8, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    print(f"  writing {frames} frames", flush=True)
    with DatasetWriter(root, features(), FPS, "bench", image_storage="video", codec=codec) as writer:
        for first in range(0, frames, EPISODE):
            writer.add_episode((_frame(pattern, first + k, rng) for k in range(EPISODE)), "follow the pattern")
    return root


def _frame(pattern: Any, number: int, rng: np.random.Generator) -> dict[str, Any]:
    state = rng.normal(size=NUMBERS).astype(np.float32)
    return {CAMERA: np.roll(pattern, (number, 2 * number), (0, 1)), STATE: state, "action": 0.1 * state}


def run_loader(
    bench: Bench,
    root: Path,
    seconds: float,
    loader: str,
    *,
    train: bool,
    cache_bytes: int = 4_000_000_000,
    steps: int = 0,
) -> TrainingReport:
    """Run `bench.children.training` and return its report; arguments as `TrainingPlan`'s.

    Raises:
        DatasetError: It ended without a report.
    """
    plan_file, output = bench.folder / "training_plan.json", bench.folder / "training_report.json"
    output.unlink(missing_ok=True)
    plan = TrainingPlan(
        root=str(root),
        loader=loader,
        train=train,
        seconds=seconds,
        steps=steps,
        batch_size=_BATCH,
        workers=_WORKERS,
        cache_bytes=cache_bytes,
        output=str(output),
    )
    write_json(plan_file, plan)
    python = os.environ[LEROBOT] if loader == "lerobot" else sys.executable
    command = [python, "-m", "bench.children.training", str(plan_file)]
    limit_s = _START_S + (seconds if not steps else 0.0)
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=limit_s)
    if not output.is_file():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1][:300]
        raise DatasetError(f"{loader}: the training process ended with {done.returncode}: {last}")
    return TrainingReport(**read_json(output))


CASE = Case("training_throughput", "windows → training steps", 20.0, 3, run)
