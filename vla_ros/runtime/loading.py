"""From parameters to a policy that is warm and fits the robot. No rclpy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vla_ros.checkpoint import Checkpoint
from vla_ros.contract import GOAL_IMAGE, RobotContract, load_contract
from vla_ros.data_types import ConfigError, Frame
from vla_ros.runtime import PolicyRunner

LoadCheckpoint = Callable[[str, str], Checkpoint]
"""(folder, device) → the checkpoint."""


@dataclass(frozen=True)
class LoadedPolicy:
    """A warm policy and the robot it was checked against."""

    checkpoint: Checkpoint
    contract: RobotContract
    runner: PolicyRunner


def load_policy(
    values: Mapping[str, bool | int | float | str],
    load_checkpoint: LoadCheckpoint,
    contract: RobotContract | None = None,
) -> LoadedPolicy:
    """Load a checkpoint, check it against the robot and warm it up.

    Args:
        values: The node's parameters.
        load_checkpoint: Reads a checkpoint folder.
        contract: The robot; None reads it as the parameters say.

    Raises:
        UserError: A file is missing or malformed, or the checkpoint does not fit the robot.
    """
    if not values["checkpoint"]:
        raise ConfigError("parameter 'checkpoint' is empty; name the folder of the checkpoint to run.")
    checkpoint = load_checkpoint(str(values["checkpoint"]), str(values["device"]))
    if contract is None:
        path = str(values["contract"])
        contract = load_contract(Path(path)) if path else checkpoint.contract
    checkpoint.check_robot(contract)
    seed = int(values["seed"])
    runner = PolicyRunner(checkpoint, None if seed < 0 else seed)
    if int(values["warm_up_runs"]):
        blank = blank_frame(contract, runner.input_keys, str(values["instruction"]))
        runner.warm_up(blank, int(values["warm_up_runs"]))
    return LoadedPolicy(checkpoint, contract, runner)


def set_torch_threads(threads: int, cores: int) -> int:
    """Set and return the threads of a forward pass; 0 leaves one core to the node's own threads.

    With every core taken by torch, one 25 ms forward became 155 ms and every control tick 4 to 5 ms late.
    """
    chosen = threads or max(1, cores - 1)
    torch.set_num_threads(chosen)
    return chosen


def blank_frame(contract: RobotContract, keys: tuple[str, ...], instruction: str = "") -> Frame:
    """Return a frame of the right shapes and types for warming up; its values mean nothing.

    Its instruction, empty for the contract's default, is the one to come: a policy that knows it needs no language
    model, and one whose language model is missing says so before it drives.
    """
    there = contract.policy_features  # an optional goal may be unknown to this robot
    features = [contract.feature(key) for key in keys if key in there or key != GOAL_IMAGE]
    values = {feature.key: np.zeros(feature.shape, feature.dtype) for feature in features}
    return Frame(0, values, instruction or contract.instruction.default)
