"""Subscribes to the first input of a contract in one of the ways that are compared, and reports what it cost.

``python -m bench.children.subscriber PLAN``, a JSON file of a `SubscriberPlan`.
"""
# ruff: noqa: TID251 (a process of its own that speaks ROS)

import sys
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rclpy
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode
from rclpy.signals import SignalHandlerOptions

from bench.children.ended import ended_by_signal
from bench.plans import SubscriberPlan, SubscriberReport, read_json, write_json
from vla_ros.contract import RobotContract, load_contract
from vla_ros.data_types import Observation
from vla_ros.messages.encoders import message_class
from vla_ros.messages.executor import make_executor, spin_until
from vla_ros.messages.qos import to_profile
from vla_ros.messages.stamps import header_stamp_ns
from vla_ros.nodes.common.memory import keep_message_buffers
from vla_ros.nodes.policy.policy_parameters import POLICY_PARAMETERS
from vla_ros.nodes.policy.session import PolicySession
from vla_ros.runtime import PredictorSpec
from vla_ros.safety import StopLatch

_KEPT = 32


class FrameSink:
    """Stands in for a policy: takes observations and decides nothing. Attributes and methods as `Predictor`."""

    def __init__(self, contract: RobotContract) -> None:
        keys = tuple(key for key in contract.features if key != contract.action.key)
        self.spec = PredictorSpec(keys, (), n_obs_steps=1, action_horizon=1, n_action_steps=1)
        self.frames = 0
        self._actions_HA = np.zeros((1, len(contract.action.names)))

    def begin_episode(self) -> None:
        """Forget nothing: nothing is kept."""

    def is_prepared(self, instruction: str) -> bool:  # noqa: ARG002
        """No instruction is read."""
        return True

    def prepare(self, instruction: str) -> None:
        """Nothing to prepare."""

    def predict(self, observation: Observation, is_known: NDArray[np.bool_]) -> NDArray[np.float64]:  # noqa: ARG002
        """Count a frame and return zeros."""
        self.frames += 1
        return self._actions_HA.copy()

    def close(self) -> None:
        """Nothing to release."""


class PlainSource:
    """A raw subscription whose callback counts, and keeps or notes what the plan says.

    Attributes:
        arrivals: As `SubscriberReport`.
    """

    def __init__(self, node: LifecycleNode, contract: RobotContract, plan: SubscriberPlan) -> None:
        self.arrivals: list[list[int]] = []
        self._received = 0
        self._kept: deque[bytes] = deque(maxlen=_KEPT)
        callback = {"record": self._record, "keep": self._keep}.get(plan.path, self._drop)
        spec = contract.inputs[0]
        kind, qos = message_class(spec.type), to_profile(spec.qos)
        self._node = node
        self._subscription = node.create_subscription(kind, spec.topic, callback, qos, raw=True)

    def received(self) -> int:
        """Return how many messages came."""
        return self._received

    def frames(self) -> int:
        """Return 0: nothing is assembled."""
        return 0

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)

    def _drop(self, _raw: bytes) -> None:
        self._received += 1

    def _keep(self, raw: bytes) -> None:
        self._received += 1
        self._kept.append(raw)

    def _record(self, raw: bytes) -> None:
        self._received += 1
        stamp_ns = header_stamp_ns(raw)
        self.arrivals.append([stamp_ns, time.time_ns() - stamp_ns])


class SessionSource:
    """The policy node's own session around a policy that does nothing; otherwise as `PlainSource`."""

    def __init__(self, node: LifecycleNode, contract: RobotContract, plan: SubscriberPlan) -> None:
        keep_message_buffers()  # as the node's own main does
        self.arrivals: list[list[int]] = []
        self._sink = FrameSink(contract)
        loaded: Any = SimpleNamespace(contract=contract, predictor=self._sink)
        values = {row.name: row.default for row in POLICY_PARAMETERS}
        self._session = PolicySession(node, values, loaded, lambda: False, StopLatch())
        self._runs = plan.path == "frames"
        if self._runs:
            self._session.start()

    def received(self) -> int:
        """Return how many messages came."""
        return int(self._session.runtime.pipeline.stream_status(time.time_ns())[0].count)

    def frames(self) -> int:
        """Return how many observations were assembled."""
        return self._sink.frames

    def close(self) -> None:
        """End the session."""
        if self._runs:
            self._session.stop()
        self._session.close()


def main() -> int:
    """Subscribe until a signal, then report."""
    ended = ended_by_signal()
    plan = SubscriberPlan(**read_json(sys.argv[1]))
    contract = load_contract(Path(plan.contract))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    node = LifecycleNode("subscriber")
    plain = plan.path in ("drop", "keep", "record")
    source = PlainSource(node, contract, plan) if plain else SessionSource(node, contract, plan)
    cpu: list[list[int]] = []

    def stopped() -> bool:
        cpu.append([time.time_ns(), time.process_time_ns(), source.received()])
        return ended.is_set()

    executor = make_executor()
    executor.add_node(node)
    spin_until(executor, stopped)
    source.close()
    write_json(plan.output, SubscriberReport(cpu, source.frames(), source.arrivals))
    executor.shutdown()
    node.destroy_node()
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
