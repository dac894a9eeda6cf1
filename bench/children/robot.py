"""The synthetic robot: publishes sensors at their rates, hears commands, and reports what it sent and heard.

``python -m bench.children.robot PLAN``, a JSON file of a `RobotPlan`. Publishes from one thread and listens in another.
"""
# ruff: noqa: TID251 (a process of its own that speaks ROS)

import heapq
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions

from bench.children.ended import ended_by_signal
from bench.messages import MessageTemplate
from bench.plans import RobotPlan, RobotReport, read_json, write_json
from vla_ros.contract import load_contract
from vla_ros.data_types import NANOSECONDS, UserError
from vla_ros.messages.encoders import message_class
from vla_ros.messages.executor import make_executor, spin_until
from vla_ros.messages.qos import to_profile
from vla_ros_msgs.msg import EndEffectorAction, PolicyStatus

PATIENCE_S = 100.0
_QUIET_S = 1.5  # longer than the policy node's diagnostics are apart: two of them with one count mean silence
_LISTENING_DEPTH = 500


class SensorSchedule:
    """Publishes every topic at its rate.

    A message whose turn was missed by more than a period is left out, and not counted as sent: making up for it in a
    burst would overrun the receiver's queue and measure this process's stalls, not the receiver.

    Args:
        plan: Rates, and whether on the grid.
        publish: Topic → sends CDR bytes.
        templates: Topic → its message.
    """

    def __init__(
        self, plan: RobotPlan, publish: dict[str, Callable[[bytes], None]], templates: dict[str, MessageTemplate]
    ) -> None:
        self._plan, self._publish, self._templates = plan, publish, templates
        self._due: list[tuple[int, str]] = []
        self.sent = dict.fromkeys(plan.rates_hz, 0)

    def begin(self, topics: list[str]) -> None:
        """Schedule these topics, and no others, from now on."""
        now_ns = time.time_ns()
        self._due = [(self._first(topic, now_ns, index), topic) for index, topic in enumerate(topics)]
        heapq.heapify(self._due)

    def run(self, go_on: Callable[[], bool]) -> None:
        """Publish while `go_on()`, asked after every message."""
        while go_on():
            due_ns, topic = self._due[0]
            now_ns = time.time_ns()
            if due_ns > now_ns:
                time.sleep((due_ns - now_ns) / NANOSECONDS)
            elif now_ns - due_ns > self._period_ns(topic):
                heapq.heapreplace(self._due, (due_ns + self._period_ns(topic), topic))
                continue
            self._publish[topic](self._templates[topic].at(due_ns if self._plan.on_grid else time.time_ns()))
            self.sent[topic] += 1
            heapq.heapreplace(self._due, (due_ns + self._period_ns(topic), topic))

    def _first(self, topic: str, now_ns: int, index: int) -> int:
        if not self._plan.on_grid:
            return now_ns + index * 1_700_000  # topics of one rate do not go out together
        period_ns = self._period_ns(topic)
        return (now_ns // period_ns + 1) * period_ns

    def _period_ns(self, topic: str) -> int:
        return round(NANOSECONDS / self._plan.rates_hz[topic])


class Robot:
    """Publishers, what was heard, and the measured window."""

    def __init__(self, plan: RobotPlan, ended: threading.Event) -> None:
        self._plan, self._ended = plan, ended
        contract = load_contract(Path(plan.contract))
        self._node = rclpy.create_node("bench_robot")
        specs = {spec.topic: spec for spec in contract.inputs if spec.topic in plan.rates_hz}
        self._publishers = {
            topic: self._node.create_publisher(message_class(spec.type), topic, to_profile(spec.qos))
            for topic, spec in specs.items()
        }
        publish = {topic: publisher.publish for topic, publisher in self._publishers.items()}
        self._schedule = SensorSchedule(plan, publish, {topic: MessageTemplate(spec) for topic, spec in specs.items()})
        self._commands: list[tuple[int, bytes]] = []
        self._diagnostics: list[DiagnosticArray] = []
        self._status: PolicyStatus | None = None
        subscribe = self._node.create_subscription
        sink = contract.action.sinks[0]
        subscribe(EndEffectorAction, sink.topic, self._on_command, QoSProfile(depth=_LISTENING_DEPTH), raw=True)
        subscribe(DiagnosticArray, "/diagnostics", self._diagnostics.append, 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        subscribe(PolicyStatus, "/policy_node/status", self._on_status, latched)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listen")
        self._thread.start()

    def run(self) -> RobotReport:
        """Wait, settle, measure.

        Raises:
            UserError: Nobody subscribed or commanded in time.
        """
        ready = self._is_commanded if self._plan.wait_for == "commands" else self._is_subscribed
        self._schedule.begin(list(self._publishers))
        deadline_s = time.monotonic() + PATIENCE_S
        self._publish_while(lambda: not ready() and time.monotonic() < deadline_s)
        if not ready() and not self._ended.is_set():
            told = f"; the policy node says: {self._status.message}" if self._status is not None else ""
            raise UserError(f"No {self._plan.wait_for} within {PATIENCE_S:g} s{told}.")
        self._publish_for(self._plan.settle_s)
        return self._count() if self._plan.count_topic else self._window()

    def close(self) -> None:
        """End the listening thread and the node."""
        self._closing.set()
        self._thread.join()
        self._node.destroy_node()

    def _window(self) -> RobotReport:
        self._commands.clear()
        before = dict(self._schedule.sent)
        begin_ns = time.time_ns()
        self._publish_for(self._plan.seconds)
        end_ns = time.time_ns()
        sent = {topic: count - before[topic] for topic, count in self._schedule.sent.items()}
        heard = len(self._diagnostics)
        if self._status is not None:  # a policy node: let it sum the window up while its inputs still come
            deadline_s = time.monotonic() + _QUIET_S
            self._publish_while(lambda: len(self._diagnostics) == heard and time.monotonic() < deadline_s)
        else:
            self._publish_for(0.2)
        commands = [command for command in map(_times, list(self._commands)) if begin_ns <= command[0] <= end_ns]
        return RobotReport((begin_ns, end_ns), sent, commands, self._status_values(), self._node_values())

    def _count(self) -> RobotReport:
        """Send one topic between two silences, and let the node say how many messages it had before and after."""
        topic = self._plan.count_topic
        first = self._settled_count(topic)
        before = self._schedule.sent[topic]
        begin_ns = time.time_ns()
        self._schedule.begin([topic])
        self._publish_for(self._plan.seconds)
        sent = self._schedule.sent[topic] - before
        end_ns = time.time_ns()
        counted = {"sent": sent, "delivered": self._settled_count(topic) - first}
        return RobotReport((begin_ns, end_ns), {topic: sent}, [], self._status_values(), self._node_values(), counted)

    def _settled_count(self, topic: str) -> int:
        deadline_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline_s and not self._ended.is_set():
            self._diagnostics.clear()
            self._ended.wait(2 * _QUIET_S)
            counts = [count for count in (_messages(a, topic) for a in list(self._diagnostics)) if count is not None]
            if len(counts) > 1 and counts[0] == counts[-1]:
                return counts[-1]
        raise UserError(f"The policy node's diagnostics did not tell a settled count of {topic}.")

    def _publish_for(self, seconds: float) -> None:
        deadline_s = time.monotonic() + seconds
        self._publish_while(lambda: time.monotonic() < deadline_s)

    def _publish_while(self, go_on: Callable[[], bool]) -> None:
        self._schedule.run(lambda: go_on() and not self._ended.is_set())

    def _is_subscribed(self) -> bool:
        return all(publisher.get_subscription_count() for publisher in self._publishers.values())

    def _is_commanded(self) -> bool:
        return any(_times(command)[2] for command in self._commands[-3:])

    def _on_command(self, raw: bytes) -> None:
        self._commands.append((time.time_ns(), raw))

    def _on_status(self, message: PolicyStatus) -> None:
        self._status = message

    def _listen(self) -> None:
        executor = make_executor()
        executor.add_node(self._node)
        spin_until(executor, self._closing.is_set)
        executor.remove_node(self._node)
        executor.shutdown()

    def _status_values(self) -> dict[str, Any]:
        status = self._status
        if status is None:
            return {}
        return {
            "state": int(status.state),
            "message": status.message,
            "commands": int(status.commands),
            "deadline_misses": int(status.deadline_misses),
            "inference_p50": float(status.inference_p50),
            "inference_p99": float(status.inference_p99),
        }

    def _node_values(self) -> dict[str, str]:
        if not self._diagnostics:
            return {}
        entries = [entry for entry in self._diagnostics[-1].status if entry.name.endswith(": policy")]
        return {pair.key: pair.value for entry in entries for pair in entry.values}


def _times(command: tuple[int, bytes]) -> list[int]:
    """Return when a command came, takes effect, and of when its observation is, ns."""
    message = deserialize_message(command[1], EndEffectorAction)
    effect, observation = message.header.stamp, message.observation_stamp
    return [
        command[0],
        effect.sec * NANOSECONDS + effect.nanosec,
        observation.sec * NANOSECONDS + observation.nanosec,
    ]


def _messages(array: DiagnosticArray, topic: str) -> int | None:
    """Return how many messages of a topic the node had received, or None where it does not say."""
    for entry in array.status:
        if entry.name.endswith(f": {topic}"):
            return next((int(pair.value) for pair in entry.values if pair.key == "messages"), None)
    return None


def main() -> int:
    """Measure, report, and stay until a signal: the group watches for children that end too early."""
    ended = ended_by_signal()
    plan = RobotPlan(**read_json(sys.argv[1]))
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    robot = Robot(plan, ended)
    try:
        report = robot.run()
        if not ended.is_set():
            write_json(plan.output, report)
            ended.wait()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    finally:
        robot.close()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
