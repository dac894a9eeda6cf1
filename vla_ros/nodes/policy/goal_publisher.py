"""A sink that is an action server: a goal when the command has changed, and never a wait. Imports rclpy.

A gripper's action server drives to one position at a time, and a goal for every control tick would preempt the last
twenty times a second. So a goal is sent when it differs from the last one sent, and again after the server refused it.
"""

import threading
from typing import Any

from rclpy.action import ActionClient
from rclpy.node import Node

_REPORT_NS = 5_000_000_000


class GoalPublisher:
    """Has the interface of a publisher, for an action's goals.

    Args:
        node: Owns the client.
        kind: Class of the action.
        name: Of the action server.
    """

    def __init__(self, node: Node, kind: Any, name: str) -> None:
        self._node, self._name = node, name
        self._client = ActionClient(node, kind, name)
        self._lock = threading.Lock()
        self._sent: Any = None
        self._reported_ns = -_REPORT_NS
        self.refused = 0

    def publish(self, goal: Any) -> None:
        """Send a goal unless it is the one that was sent last; one that no server takes is tried again."""
        with self._lock:
            if goal == self._sent:
                return
            if not self._client.server_is_ready():
                self._report(f"{self._name}: no action server is there to take the gripper's goals")
                return
            self._sent = goal
        self._client.send_goal_async(goal).add_done_callback(lambda future: self._answered(goal, future))

    def destroy(self) -> None:
        """Give up the client."""
        self._client.destroy()

    def _answered(self, goal: Any, future: Any) -> None:
        answer = None if future.exception() else future.result()
        if answer is not None and answer.accepted:
            return
        with self._lock:
            self.refused += 1
            if self._sent is goal:
                self._sent = None
            self._report(f"{self._name}: the action server refused a goal; it is sent again")

    def _report(self, sentence: str) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        if now_ns - self._reported_ns >= _REPORT_NS or now_ns < self._reported_ns:
            self._reported_ns = now_ns
            self._node.get_logger().warning(sentence)
