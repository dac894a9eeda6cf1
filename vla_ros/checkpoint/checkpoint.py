"""A loaded checkpoint, and whether it fits a robot. No files.

Files of a checkpoint folder are named here, so that reading and writing cannot disagree.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vla_ros.contract import GOAL_IMAGE, FeatureSpec, RobotContract, contract_differences
from vla_ros.data_types import CheckpointError, nearest_name
from vla_ros.policies import Policy
from vla_ros.processors import Processors

WEIGHTS = "model.safetensors"
CONFIG = "config.yaml"
PROCESSORS = "processors.yaml"
STATISTICS = "processors.safetensors"
CONTRACT = "contract.yaml"
METADATA = "metadata.json"
MODEL_CARD = "README.md"
REQUIRED = (WEIGHTS, CONFIG, PROCESSORS, STATISTICS, CONTRACT, METADATA)
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        path: The folder.
        policy: In eval mode, on the device it was loaded to.
        processors: On the same device.
        contract: Of the robot whose data it was trained on.
        metadata: Versions, contract hash, data, step and metrics.
    """

    path: Path
    policy: Policy
    processors: Processors
    contract: RobotContract
    metadata: Mapping[str, Any]

    def check_robot(self, contract: RobotContract) -> None:
        """Refuse a robot whose numbers do not mean what they meant in training.

        Raises:
            CheckpointError: A feature is absent or of another shape or order, or the contracts' hashes differ; says
                which fields.
        """
        problems = self._feature_problems(contract)
        if not problems and self.contract.hash != contract.hash:
            found = contract_differences(self.contract, contract)
            problems = [f"contract hash {self.contract.hash} is not the robot's {contract.hash}: {'; '.join(found)}"]
        if problems:
            robot = contract.source or contract.robot_type
            raise CheckpointError(f"{self.path} does not fit {robot}: {'; '.join(problems)}.")

    def _feature_problems(self, contract: RobotContract) -> list[str]:
        robot = contract.policy_features
        problems = self._goal_problems(contract)
        for key, spec in (*self.processors.inputs.items(), (self.processors.action.key, self.processors.action)):
            if key not in robot and key in self.policy.config.optional_inputs:
                continue
            if key not in robot:
                problems.append(f"the robot has no '{key}'{nearest_name(key, robot).rstrip('?')}")
            elif _identity(robot[key]) != _identity(spec):
                problems.append(f"'{key}' was {_describe(spec)}, the robot's is {_describe(robot[key])}")
        return problems

    def _goal_problems(self, contract: RobotContract) -> list[str]:
        """Goals of another camera are of the right shape and mean nothing."""
        trained, robot = self.contract.goal, contract.goal
        if GOAL_IMAGE not in self.processors.inputs or trained is None or robot is None:
            return []
        if trained.camera == robot.camera:
            return []
        return [f"'{GOAL_IMAGE}' was a picture of '{trained.camera}', the robot's is of '{robot.camera}'"]


def _identity(spec: FeatureSpec) -> tuple[Any, ...]:
    return (spec.kind, spec.shape, spec.names)


def _describe(spec: FeatureSpec) -> str:
    names = "" if spec.kind == "image" else f" ({', '.join(spec.names)})"
    return f"{spec.kind} {list(spec.shape)}{names}"
