"""From parameters to a policy that is warm and fits the robot. No rclpy; torch only where this process predicts."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_ros.contract import RobotContract, load_contract, measured_sources
from vla_ros.data_types import ActionChunk, CheckpointError, ConfigError, Frame
from vla_ros.registry import BACKENDS
from vla_ros.runtime.chunk_executor import chunk_problem
from vla_ros.runtime.policy_runner import PolicyRunner
from vla_ros.runtime.predictor import Predictor
from vla_ros.runtime.process_predictor import ProcessPredictor

if TYPE_CHECKING:
    from vla_ros.checkpoint import Checkpoint

LoadCheckpoint = Callable[[str, str], "Checkpoint"]
"""(folder, device) → the checkpoint."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A warm policy and the robot it was checked against.

    Attributes:
        path: Checkpoint folder.
        contract: The robot.
        predictor: The policy, warm.
        threads: Threads of a forward pass.
    """

    path: Path
    contract: RobotContract
    predictor: Predictor
    threads: int


@dataclass(frozen=True)
class LoadRequest:
    """What an inference backend is asked for.

    Attributes:
        path: Checkpoint folder.
        contract: The robot; None is the one whose contract lies in the checkpoint.
        values: The node's parameters.
        load_checkpoint: Reads a checkpoint folder, for backends that run it with torch in this process.
    """

    path: Path
    contract: RobotContract | None
    values: Mapping[str, bool | int | float | str]
    load_checkpoint: LoadCheckpoint

    def robot(self) -> RobotContract:
        """Return the robot's contract.

        Raises:
            CheckpointError: There is no such folder.
            ContractError: The copy in the checkpoint cannot be read.
        """
        if self.contract is not None:
            return self.contract
        if not self.path.is_dir():
            raise CheckpointError(f"{self.path}: no such checkpoint folder.")
        return load_contract(self.path / "contract.yaml")

    def check_robot(self) -> None:
        """Refuse a robot that is not the checkpoint's; for backends that do not load it with `load_checkpoint`.

        Raises:
            CheckpointError: There is no such folder, or the contracts' hashes differ.
        """
        trained = LoadRequest(self.path, None, self.values, self.load_checkpoint).robot()
        robot = self.robot()
        if trained.hash != robot.hash:
            raise CheckpointError(
                f"{self.path} does not fit {robot.source or robot.robot_type}: contract hash {trained.hash} is not the "
                f"robot's {robot.hash}; use the contract of the checkpoint, or a checkpoint of this robot."
            )


def load_policy(
    values: Mapping[str, bool | int | float | str],
    load_checkpoint: LoadCheckpoint,
    contract: RobotContract | None = None,
) -> LoadedPolicy:
    """Load a checkpoint, check it against the robot and warm it up, with the backend that `inference` names.

    Args:
        values: The node's parameters; those of `inference` may be left out.
        load_checkpoint: Reads a checkpoint folder; not used for a process of its own, which reads it itself.
        contract: The robot; None reads it as the parameters say.

    Raises:
        UserError: A file is missing or malformed, there is no such backend, the checkpoint does not fit the robot, or
            what it predicts on a blank observation is no action.
    """
    if not values["checkpoint"]:
        raise ConfigError("parameter 'checkpoint' is empty; name the folder of the checkpoint to run.")
    if contract is None and values["contract"]:
        contract = load_contract(Path(str(values["contract"])))
    load = BACKENDS[str(values.get("inference", "thread"))]
    loaded: LoadedPolicy = load(LoadRequest(Path(str(values["checkpoint"])), contract, values, load_checkpoint))
    return loaded


def load_here(request: LoadRequest) -> LoadedPolicy:
    """Load a policy that predicts with torch in a thread of this process; the backend ``thread``.

    Raises:
        UserError: As `load_policy`.
    """
    from vla_ros.runtime.torch_predictor import TorchPredictor

    values = request.values
    checkpoint = request.load_checkpoint(str(request.path), str(values["device"]))
    contract = request.contract or checkpoint.contract
    checkpoint.check_robot(contract)
    threads = set_torch_threads(int(values.get("torch_threads", 0)), len(os.sched_getaffinity(0)))
    seed = int(values["seed"])
    predictor = TorchPredictor(checkpoint, None if seed < 0 else seed)
    return warmed(LoadedPolicy(checkpoint.path, contract, predictor, threads), values)


def load_in_process(request: LoadRequest) -> LoadedPolicy:
    """Load a policy that predicts in a process of its own, which warms itself up; the backend ``process``.

    Raises:
        UserError: As `load_policy`.
    """
    contract = request.robot()
    values = {**request.values, "checkpoint": str(request.path)}
    predictor = ProcessPredictor(contract, values, float(request.values["max_inference_s"]))
    return LoadedPolicy(request.path, contract, predictor, predictor.threads)


def warmed(loaded: LoadedPolicy, values: Mapping[str, bool | int | float | str]) -> LoadedPolicy:
    """Return a policy that has predicted a few times, as a backend must.

    Raises:
        CheckpointError: What it predicts on a blank observation is no action of this robot.
    """
    contract = loaded.contract
    blank = blank_frame(contract, loaded.predictor.spec.input_keys, str(values["instruction"]))
    chunk = warm_up(loaded.predictor, contract, blank, max(1, int(values["warm_up_runs"])))
    problem = chunk_problem(contract.action, chunk)
    if problem:
        raise CheckpointError(
            f"{loaded.path}: predicts no action on a blank observation: {problem}; train or export it again."
        )
    return loaded


def warm_up(predictor: Predictor, contract: RobotContract, blank: Frame, runs: int) -> ActionChunk:
    """Predict a few times on one frame, so that the first true prediction is not several times slower.

    Leaves no trace: the predictor's episode begins anew. Returns the last prediction.
    """
    for _ in range(runs):
        runner = PolicyRunner(predictor, contract.fps)
        runner.observe(blank)
        chunk = runner.predict()
    predictor.begin_episode()
    return chunk


def set_torch_threads(threads: int, cores: int) -> int:
    """Set and return the threads of a forward pass; 0 leaves one core to the node's own threads.

    With every core taken by torch, one 25 ms forward became 155 ms and every control tick 4 to 5 ms late.
    """
    import torch

    chosen = threads or max(1, cores - 1)
    torch.set_num_threads(chosen)
    return chosen


def blank_frame(contract: RobotContract, keys: tuple[str, ...], instruction: str = "") -> Frame:
    """Return a frame of the right shapes and types for warming up: zeros, and no rotation where there is one.

    Args:
        contract: The robot.
        keys: Features of the policy; a goal that this robot is not given is left out.
        instruction: The one that the node will run with, so that cached embeddings are used and a missing language
            model fails at configure; empty takes the contract's default.
    """
    there = contract.policy_features
    features = [contract.feature(key) for key in keys if key in there or not key.startswith("goal.")]
    values = {feature.key: np.zeros(feature.shape, feature.dtype) for feature in features}
    for key, name in _ones_of_rotations(contract):
        if key in values:
            values[key][contract.feature(key).names.index(name)] = 1
    return Frame(0, values, instruction or contract.instruction.default)


def _ones_of_rotations(contract: RobotContract) -> Iterator[tuple[str, str]]:
    """Yield key and name of the numbers that are 1 where nothing is turned; numbers that are all 0 are no rotation."""
    for spec in contract.inputs:
        vector = spec.key in contract.features and contract.feature(spec.key).kind == "vector"
        for field, name in zip(spec.fields, spec.names, strict=False) if vector else ():
            if field.endswith(("orientation.w", "rotation.w")):
                yield spec.key, name
    measured = measured_sources(contract)
    if measured.orientation is not None:
        ones = {"quaternion": (3,), "rot6d": (0, 4)}.get(measured.rotation, ())
        for number, index in (measured.orientation[one] for one in ones):
            yield contract.inputs[number].key, contract.inputs[number].names[index]
