"""Run with the example package on the path: writes a dataset of its simulator's expert into a folder."""

import sys
from importlib.resources import files
from pathlib import Path

import numpy as np

from vla_ros.contract import load_contract
from vla_ros.datasets import DatasetWriter
from vla_ros.sim import SimRequest, make_robot


def main(folder: Path) -> None:
    """Write ``contract.yaml`` and ``data``."""
    text = files("example_parts").joinpath("stage.yaml").read_text()
    (folder / "stage.yaml").write_text(text)
    contract = load_contract(folder / "stage.yaml")
    robot = make_robot("example_stage", SimRequest(contract))
    period_ns = 1_000_000_000 // contract.fps
    writer = DatasetWriter(folder / "data", contract.features, contract.fps, contract.robot_type, image_storage="png")
    for seed in range(4):
        robot.reset(seed)
        decide, frames = robot.demonstrator("expert"), []
        for _ in range(12):
            action = decide()
            frames.append(
                {
                    "observation.images.top": robot.image(),
                    "observation.state": robot.position.astype("float32"),
                    "observation.light": np.array([robot.light()], np.float32),
                    "action": action.astype("float32"),
                }
            )
            robot.command(action, period_ns)
            for _ in range(period_ns // robot.step_ns):
                robot.step()
        writer.add_episode(frames, contract.instruction.default)
    writer.finish({"meta/contract.yaml": text, "meta/contract_hash.txt": contract.hash + "\n"})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
