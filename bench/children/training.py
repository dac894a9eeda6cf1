"""Reads training windows, and trains ACT on them, for some seconds: with our loader, or with lerobot's.

``python -m bench.children.training PLAN``. In lerobot's own environment it imports lerobot's dataset, torch and this
repository's policies, and none of our loader.
"""

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
import yaml

from bench.plans import TrainingPlan, TrainingReport, read_json, write_json
from vla_ros.contract import FeatureSpec
from vla_ros.policies import Policy, build_policy

CAMERA, STATE = "observation.images.front", "observation.state"
SIDE, NUMBERS, FPS = 96, 8, 20
_OPTIONS = Path(__file__).resolve().parents[2] / "config/policies/act_small.yaml"


def features() -> dict[str, FeatureSpec]:
    """Return the features of the dataset that the case writes."""
    names = tuple(f"joint_{number}" for number in range(NUMBERS))
    return {
        CAMERA: FeatureSpec(CAMERA, "image", (SIDE, SIDE, 3), "uint8", ("height", "width", "channels")),
        STATE: FeatureSpec(STATE, "vector", (NUMBERS,), "float32", names),
        "action": FeatureSpec("action", "action", (NUMBERS,), "float32", names),
    }


def main(path: str) -> None:
    """Run a plan and write its report."""
    plan = TrainingPlan(**read_json(path))
    torch.set_num_threads(plan.threads)
    policy = _act()
    batches = _ours(plan, policy) if plan.loader == "vla_ros" else _lerobots(plan, policy)
    optimiser = torch.optim.AdamW(policy.parameters(), lr=1e-4)
    done, begin_s = -_WARM_UP, 0.0
    for batch in batches:
        if plan.train:
            optimiser.zero_grad(set_to_none=True)
            policy.compute_loss(batch).loss.backward()
            optimiser.step()
        done += 1
        if done == 0:
            begin_s = time.monotonic()
        elif done > 0 and (time.monotonic() - begin_s > plan.seconds or done == plan.steps):
            break
    spent_s = time.monotonic() - begin_s
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    write_json(Path(plan.output), TrainingReport(done, spent_s, peak_kib * 1024))


_WARM_UP = 4
"""Batches before the clock starts: imports, open files, threads."""


def _act() -> Policy:
    """Return ACT as ``config/policies/act_small.yaml`` has it, for one camera and one frame."""
    own = features()
    options = yaml.safe_load(_OPTIONS.read_text(encoding="utf-8"))
    options |= {"n_obs_steps": 1, "magnitude_weighting": False, "magnitude_names": [], "tanh": False, "objective": "l1"}
    torch.manual_seed(0)
    return build_policy("act", {"inputs": {CAMERA: own[CAMERA], STATE: own[STATE]}, "action": own["action"], **options})


def _ours(plan: TrainingPlan, policy: Policy) -> Iterator[Any]:
    from vla_ros.datasets import EpisodeDataset, WindowSampler
    from vla_ros.processors import ProcessorOptions, Processors
    from vla_ros.training.loader import prepared

    dataset = EpisodeDataset(plan.root)
    config, own = policy.config, features()
    windows = WindowSampler(
        dataset,
        range(dataset.n_episodes),
        [CAMERA, STATE],
        1,
        config.action_horizon,
        cache_folder=Path(plan.output).parent,
        cache_bytes=plan.cache_bytes,
    )
    inputs = {CAMERA: own[CAMERA], STATE: own[STATE]}
    processors = Processors(inputs, own["action"], ProcessorOptions(action="mean_std"), dataset.statistics())
    rng = np.random.default_rng(0)
    size = plan.batch_size
    while True:
        order = windows.order(rng)

        def read(step: int, order: Any = order) -> dict[str, Any]:
            return windows.batch(order[step * size : (step + 1) * size])

        for raw in prepared(read, 0, len(order) // size, plan.workers):
            yield processors.batch(raw)


def _lerobots(plan: TrainingPlan, policy: Policy) -> Iterator[Any]:
    declare_missing_operators()
    from ledataset.datasets.lerobot_dataset import LeRobotDataset  # type: ignore[import-not-found]  # its environment

    horizon = policy.config.action_horizon
    dataset = LeRobotDataset(
        "bench/training",
        root=plan.root,
        delta_timestamps={"action": [step / FPS for step in range(horizon)]},
        video_backend="pyav",
    )
    stats = dataset.meta.stats
    moments = {
        key: [torch.as_tensor(stats[key][name]).float() for name in ("mean", "std")] for key in (STATE, "action")
    }
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=plan.batch_size, shuffle=True, num_workers=plan.workers, drop_last=True
    )
    while True:
        for raw in loader:
            state, action = ((raw[key] - moments[key][0]) / moments[key][1] for key in (STATE, "action"))
            image = (raw[CAMERA] - mean[:, None, None]) / std[:, None, None]
            yield {
                CAMERA: image[:, None],
                STATE: state[:, None],
                "action": action,
                "action_is_pad": raw["action_is_pad"],
                "is_pad": torch.zeros(len(state), 1, dtype=torch.bool),
            }


class VideoReader:
    """What lerobot 0.4 takes from torchvision for its ``pyav`` backend, which torchvision has dropped since.

    The same calls on PyAV: open, seek to the key frame before a time, decode on from there.
    """

    def __init__(self, path: str, _stream: str) -> None:
        self.container = av.open(path)

    def seek(self, time_s: float, *, keyframes_only: bool) -> None:
        """Go to the key frame at or before a time."""
        stream = self.container.streams.video[0]
        self.container.seek(int(time_s / stream.time_base), any_frame=not keyframes_only, backward=True, stream=stream)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield frames as uint8 [3, h, w] and their times."""
        for frame in self.container.decode(video=0):
            yield {"data": torch.as_tensor(frame.to_rgb().to_ndarray()).permute(2, 0, 1), "pts": frame.time}


def declare_missing_operators() -> None:
    """Let torchvision, which lerobot imports, be imported beside a torch without its compiled operators."""
    try:
        import torchvision
    except (ImportError, RuntimeError):
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float threshold) -> Tensor")
        import torchvision
    if not hasattr(torchvision.io, "VideoReader"):
        torchvision.io.VideoReader = VideoReader
    torchvision.set_video_backend = lambda _name: None


if __name__ == "__main__":
    main(sys.argv[1])
