"""Node that records what a policy will see and what the demonstrator does, one rosbag2 MCAP bag per episode.

Callbacks hand serialised messages to `EpisodeRecorder`; nothing is decoded but the status of a simulated robot's
episodes. With `auto_episodes` those begin and end the bags, otherwise the services ``~/start_episode`` and
``~/stop_episode`` do.
"""

import signal
import sys
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rclpy
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_ros.bags.episode_recorder import EpisodeRecorder, RecordedTopic
from vla_ros.contract import QosSpec, RobotContract, load_contract
from vla_ros.contract.types import has_header
from vla_ros.data_types import NANOSECONDS, UserError
from vla_ros.messages.executor import make_executor, spin_until
from vla_ros.messages.forms.transforms import TF_MESSAGE
from vla_ros.messages.message_types import typestore
from vla_ros.messages.qos import to_profile
from vla_ros.messages.rclpy_deserialize import deserialize, message_class
from vla_ros.nodes.common.memory import keep_message_buffers
from vla_ros.nodes.common.parameters import ParameterRow, declare_parameters
from vla_ros_msgs.srv import StartEpisode, StopEpisode

STATUS_TYPE = "vla_ros_msgs/msg/EpisodeStatus"
CAMERA_INFO_TYPE = "sensor_msgs/msg/CameraInfo"

HOLD_BACK_S = 0.5
"""News of a new episode may arrive this much later than its first messages: topics are not ordered among each other."""

RECORDING_DEPTH = 1000
"""Messages that the middleware keeps while the interpreter is busy elsewhere: two seconds at 500 Hz."""

REPLY_TIMEOUT_S = 30.0

PARAMETERS = (
    ParameterRow("contract", "", "Path of the robot's contract."),
    ParameterRow("output", "bags", "Folder of the bags, created when the first begins."),
    ParameterRow("auto_episodes", False, "Begin and end bags by episode_status_topic instead of by the services."),
    ParameterRow("discard_failures", False, "With auto_episodes: delete the bags of episodes that did not succeed."),
    ParameterRow("episode_status_topic", "/sim/episode_status", "EpisodeStatus of a simulated robot, or empty."),
)


def recorded_topics(contract: RobotContract, episode_status_topic: str) -> tuple[RecordedTopic, ...]:
    """Return what is recorded of a robot: its inputs, the demonstrated action, the commands, clock, words, status."""
    action, local = contract.action, QosSpec("reliable", "transient_local", 1)
    topics = [
        *(RecordedTopic(s.topic, s.type, s.qos, has_header(s.type), watched=True) for s in contract.inputs),
        *(RecordedTopic(r.topic, r.type, r.qos, has_header(r.type), watched=True) for r in action.records),
        *(RecordedTopic(s.topic, s.type, s.qos, has_header(s.type)) for s in action.sinks if not s.is_action),
        RecordedTopic("/clock", "rosgraph_msgs/msg/Clock", QosSpec("best_effort")),
        RecordedTopic(contract.instruction.topic, "std_msgs/msg/String", local, stamped=False, latched=True),
    ]
    if contract.goal is not None:
        goal = contract.goal
        topics.append(RecordedTopic(goal.topic, goal.type, goal.qos, stamped=False, latched=True))
    infos = {s.info.topic: s.qos for s in contract.inputs if s.info is not None and s.info.topic}
    topics += [RecordedTopic(name, CAMERA_INFO_TYPE, qos) for name, qos in infos.items()]
    static = {s.transform.static_topic for s in contract.inputs if s.transform is not None}
    if find_spec("tf2_msgs") is not None:
        static.add("/tf_static")
    # As many nodes publish a part of it, what each said last must fit the queue
    several = QosSpec("reliable", "transient_local", 100)
    topics += [RecordedTopic(t, TF_MESSAGE, several, stamped=False, latched=True, adds_up=True) for t in sorted(static)]
    if episode_status_topic:
        topics.append(RecordedTopic(episode_status_topic, STATUS_TYPE, QosSpec("reliable", depth=10)))
    return tuple({topic.name: topic for topic in reversed(topics)}.values())[::-1]  # the first of each name


class BagRecorderNode(Node):
    """Records episodes; see the module.

    Raises:
        UserError: The contract cannot be read, or a message package is missing.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("bag_recorder", **options)
        values = declare_parameters(self, PARAMETERS)
        self._contract = load_contract(str(values["contract"]))
        self._auto, self._discard_failures = bool(values["auto_episodes"]), bool(values["discard_failures"])
        self._status_topic = str(values["episode_status_topic"])
        self._instruction = ""  # until one is said: the contract's default is the converter's to take, and to refuse
        self._status: Any = None  # newest status of the episode being recorded
        self._skipped: int | None = None  # episode that is not recorded: joined too late, or stopped by service
        typestore()  # built now: in the first callback it would cost a second of messages
        topics = recorded_topics(self._contract, self._status_topic)
        self.recorder = EpisodeRecorder(
            Path(str(values["output"])), self._contract, topics, self._report, HOLD_BACK_S if self._auto else 0.0
        )
        for index, topic in enumerate(topics):
            depth = max(topic.qos.depth, 1 if topic.latched else RECORDING_DEPTH)
            qos = to_profile(QosSpec(topic.qos.reliability, topic.qos.durability, depth))
            self.create_subscription(
                message_class(topic.type), topic.name, partial(self._on_message, index), qos, raw=True
            )
        self.create_service(StartEpisode, "~/start_episode", self._on_start)
        self.create_service(StopEpisode, "~/stop_episode", self._on_stop)

    def close(self) -> None:
        """Finish the bag being written."""
        self._finish_auto()
        self.recorder.close()

    def _on_message(self, index: int, raw: bytes) -> None:
        self.recorder.record(index, raw, self._now_ns())
        topic = self.recorder.topics[index]
        if topic.name == self._contract.instruction.topic:
            self._instruction = deserialize(raw, topic.type).data
        elif topic.name == self._status_topic:
            self._on_status(deserialize(raw, topic.type))

    def _on_status(self, status: Any) -> None:
        if not self._auto or status.episode == self._skipped:
            return
        if self._status is not None and status.episode == self._status.episode:
            self._status = status
            return
        stamp_ns = status.header.stamp.sec * NANOSECONDS + status.header.stamp.nanosec
        if status.elapsed > HOLD_BACK_S:
            self._finish_auto()
            self._skipped, self._status = status.episode, None
            self._report("info", f"episode {status.episode} began {status.elapsed:.1f} s ago; waiting for the next")
            return
        previous, discard = self._outcome()
        self._status, self._skipped = status, None
        facts = {
            "instruction": self._instruction,
            "task": status.task,
            "seed": int(status.seed),
            "episode": int(status.episode),
        }
        begin_ns = stamp_ns - round(status.elapsed * NANOSECONDS)
        self.recorder.start(facts, self._now_ns(), begin_ns, previous=previous, discard_previous=discard)

    def _outcome(self) -> tuple[dict[str, Any], bool]:
        """Return what the status said last of the episode being recorded, and whether to discard it."""
        if self._status is None:
            return {}, False
        success = bool(self._status.success)
        return {"success": success}, self._discard_failures and not success

    def _finish_auto(self) -> None:
        if self._status is not None:
            facts, discard = self._outcome()
            self._status = None
            self.recorder.stop(facts, discard=discard)

    def _on_start(self, request: Any, response: Any) -> Any:
        now_ns = self._now_ns()
        if now_ns == 0:
            response.message = "use_sim_time is set but /clock is silent; start the simulation first."
            return response
        instruction = request.instruction or self._instruction
        path, response.message = _reply(self.recorder.start({"instruction": instruction}, now_ns))
        response.success, response.path = path is not None, str(path or "")
        return response

    def _on_stop(self, request: Any, response: Any) -> Any:
        if self._status is not None:
            self._skipped, self._status = self._status.episode, None  # until the next episode begins
        reply = self.recorder.stop({"success": bool(request.task_success)}, discard=request.discard)
        path, problem = _reply(reply)
        response.success = path is not None
        response.message = problem or ("" if response.success else "no episode is being recorded.")
        response.path = "" if path is None or request.discard else str(path)
        return response

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _report(self, severity: str, sentence: str) -> None:
        # One call site per severity: rclpy refuses a site that changes its own
        logger = self.get_logger()
        if severity == "error":
            logger.error(sentence)
        elif severity == "warning":
            logger.warning(sentence)
        else:
            logger.info(sentence)


def _reply(future: "Future[Any]") -> tuple[Any, str]:
    """Wait for the writer; return its result and an empty sentence, or None and what went wrong."""
    try:
        return future.result(REPLY_TIMEOUT_S), ""
    except UserError as reason:
        return None, str(reason)
    except FutureTimeoutError:
        return None, f"the disk did not answer within {REPLY_TIMEOUT_S:g} s."


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT or SIGTERM; return the exit code."""
    keep_message_buffers()
    # rclpy's own handlers would shut the context down while messages are still to be written
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        node = BagRecorderNode()
    except UserError as reason:
        print(f"error: {reason}", file=sys.stderr)
        rclpy.try_shutdown()
        return reason.exit_code
    try:
        executor = make_executor()
        executor.add_node(node)
        spin_until(executor, ended.is_set)
        executor.remove_node(node)
        executor.shutdown()
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
