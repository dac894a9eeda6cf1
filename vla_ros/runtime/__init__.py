"""Running a policy in time: observation history, policy state, chunk execution, latency. No ROS, no clock.

State that belongs to an episode lives here and never in a policy's modules. Every moment is an argument in integer
nanoseconds, so the node, the replay and the tests run the same code under their own clocks. Importing the package does
not import torch; only `PolicyRunner` needs it.
"""

from typing import TYPE_CHECKING, Any

from vla_ros.runtime.chunk_executor import (
    EXECUTION_MODES,
    ChunkExecutor,
    Execution,
    ExecutionMode,
    ExecutionStatus,
)
from vla_ros.runtime.latency import LatencyTracker
from vla_ros.runtime.observation_history import ObservationHistory
from vla_ros.runtime.safe_action import zero_motion

if TYPE_CHECKING:
    from vla_ros.runtime.policy_runner import PolicyRunner

__all__ = [
    "EXECUTION_MODES",
    "ChunkExecutor",
    "Execution",
    "ExecutionMode",
    "ExecutionStatus",
    "LatencyTracker",
    "ObservationHistory",
    "PolicyRunner",
    "zero_motion",
]


def __getattr__(name: str) -> Any:
    """Import `PolicyRunner`, and torch with it, when it is first asked for."""
    if name == "PolicyRunner":
        from vla_ros.runtime.policy_runner import PolicyRunner

        return PolicyRunner
    raise AttributeError(f"module 'vla_ros.runtime' has no attribute '{name}'")
