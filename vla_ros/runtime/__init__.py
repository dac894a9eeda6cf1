"""Running a policy in time: one wiring of observation, prediction, chunk execution and safety. No ROS.

State that belongs to an episode lives here and never in a policy's modules. Every moment is an argument or a `Clock`'s,
in integer nanoseconds, so the node, the replay, the in-process rollout and the tests run the same code. Importing the
package does not import torch; only `TorchPredictor` and `loading` need it.
"""

from typing import TYPE_CHECKING, Any

from vla_ros.runtime.chunk_executor import (
    EXECUTION_MODES,
    ChunkExecutor,
    Execution,
    ExecutionMode,
    ExecutionStatus,
)
from vla_ros.runtime.clock import Clock, ManualClock
from vla_ros.runtime.controller import ControlOutput, ControlState, ControlStatus
from vla_ros.runtime.latency import LatencyTracker
from vla_ros.runtime.loading import LoadedPolicy, LoadRequest, load_policy, warmed
from vla_ros.runtime.observation_history import ObservationHistory
from vla_ros.runtime.observer import TickResult
from vla_ros.runtime.policy_runner import PolicyRunner
from vla_ros.runtime.policy_runtime import Decision, PolicyRuntime, RuntimeOptions
from vla_ros.runtime.predictor import Predictor, PredictorSpec
from vla_ros.runtime.threads import RuntimeThreads

if TYPE_CHECKING:
    from vla_ros.runtime.torch_predictor import TorchPredictor

__all__ = [
    "EXECUTION_MODES",
    "ChunkExecutor",
    "Clock",
    "ControlOutput",
    "ControlState",
    "ControlStatus",
    "Decision",
    "Execution",
    "ExecutionMode",
    "ExecutionStatus",
    "LatencyTracker",
    "LoadRequest",
    "LoadedPolicy",
    "ManualClock",
    "ObservationHistory",
    "PolicyRunner",
    "PolicyRuntime",
    "Predictor",
    "PredictorSpec",
    "RuntimeOptions",
    "RuntimeThreads",
    "TickResult",
    "TorchPredictor",
    "load_policy",
    "warmed",
]


def __getattr__(name: str) -> Any:
    """Import `TorchPredictor`, and torch with it, when it is first asked for."""
    if name == "TorchPredictor":
        from vla_ros.runtime.torch_predictor import TorchPredictor

        return TorchPredictor
    raise AttributeError(f"module 'vla_ros.runtime' has no attribute '{name}'")
