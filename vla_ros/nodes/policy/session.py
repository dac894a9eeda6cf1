"""What the policy node has while it is configured: the loaded policy, its threads, subscriptions and publishers."""

import gc
import threading
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import QoSProfile, qos_policy_name_from_kind

from vla_ros.contract import INSTRUCTION, SinkSpec
from vla_ros.data_types import NANOSECONDS, UserError
from vla_ros.messages.encoders import (
    carries_chunks,
    check_sinks,
    encode_chunk,
    encode_command,
    is_telemetry,
    message_class,
)
from vla_ros.messages.forms.joints import JOINT_STATE
from vla_ros.messages.forms.transforms import TF_MESSAGE
from vla_ros.messages.qos import to_profile
from vla_ros.messages.rclpy_deserialize import deserialize
from vla_ros.nodes.common.parameters import Value
from vla_ros.nodes.policy.goal_publisher import GoalPublisher
from vla_ros.nodes.policy.node_clock import NodeClock
from vla_ros.runtime import ControlOutput, PolicyRuntime, RuntimeOptions, RuntimeThreads
from vla_ros.runtime.loading import LoadedPolicy
from vla_ros.safety import StopLatch
from vla_ros_msgs.msg import EpisodeStatus

_SHARED = (JOINT_STATE, TF_MESSAGE, "std_msgs/msg/String")
"""Types of topics that several publishers may share: each joint, frame and instruction is one of theirs."""


class PolicySession:
    """Everything between configure and cleanup. Callbacks stamp and store; the runtime's threads do the work.

    Args:
        node: Owns the subscriptions and publishers.
        values: The node's parameters.
        loaded: The policy and the robot.
        enabled: Whether commands may be published; False is a dry run.
        stop: The node's stop latch, which outlives the session.

    Raises:
        UserError: A sink cannot carry the action, a message package is missing, or a parameter contradicts the policy.
    """

    def __init__(
        self,
        node: LifecycleNode,
        values: Mapping[str, Value],
        loaded: LoadedPolicy,
        enabled: Callable[[], bool],
        stop: StopLatch,
    ) -> None:
        self.loaded, self.contract = loaded, loaded.contract
        self._node = node
        check_sinks(self.contract)
        self.clock = NodeClock(node.get_clock())
        options = RuntimeOptions(
            instruction=str(values["instruction"]),
            chunk_mode=str(values["chunk_mode"]),
            n_action_steps=int(values["n_action_steps"]),
            ensemble_decay=float(values["ensemble_decay"]),
            max_inference_s=float(values["max_inference_s"]),
            lock_step=bool(values["lock_step"]),
            follows_episodes=bool(values["episode_status_topic"]),
        )
        self.runtime = PolicyRuntime(self.contract, loaded.predictor, deserialize, self.clock, options, stop)
        self.threads = RuntimeThreads(self.runtime, self._publish, enabled)
        self.clock.listen(self._on_time)
        self.qos_problems: dict[str, str] = {}
        self.crowded: dict[str, str] = {}
        self._episode: int | None = None
        self._latching = threading.Lock()  # goals take effect in the order in which they came
        self._subscriptions = [self._subscribe(index) for index in range(len(self.runtime.specs))]
        self._subscriptions += self._subscribe_episodes(str(values["episode_status_topic"]))
        self._publishers = [(sink, self._advertise(sink)) for sink in self.contract.action.sinks]

    def start(self) -> None:
        """Begin to observe, decide and command.

        Raises:
            ConfigError: A prediction from before has still not ended.
        """
        self.threads.start()
        gc.collect()
        gc.freeze()  # what was loaded lives on; looking at it again would only cost control ticks
        gc.disable()  # the predicting thread collects between predictions

    def stop(self) -> None:
        """Command zero motion, then end the threads; a prediction that hangs is left behind."""
        if not self.threads.stop():
            self._node.get_logger().error("the prediction under way does not end; its thread is left behind")
        gc.enable()
        gc.unfreeze()

    def close(self) -> None:
        """Give up subscriptions, publishers and the policy."""
        self.clock.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for _, publisher in self._publishers:
            if isinstance(publisher, GoalPublisher):
                publisher.destroy()
            else:
                self._node.destroy_publisher(publisher)
        self.loaded.predictor.close()

    def warnings(self) -> list[tuple[str, str]]:
        """Return (topic, sentence) for what is odd about topics that are used all the same."""
        return [*self.runtime.pipeline.warnings(), *self.qos_problems.items(), *self.crowded.items()]

    def count_publishers(self) -> None:
        """Look which inputs have several publishers; those of joints and transforms are meant to."""
        for spec in self.runtime.specs:
            n = 0 if spec.type in _SHARED else self._node.count_publishers(spec.topic)
            if n > 1:
                self.crowded[spec.topic] = (
                    f"{spec.topic} ({spec.key}): has {n} publishers, whose messages are taken for one sensor's; stop "
                    "all but one"
                )
            else:
                self.crowded.pop(spec.topic, None)

    def set_instruction(self, instruction: str) -> None:
        """Tell the policy what to do; may take long.

        Raises:
            UserError: This machine cannot make the instruction ready; the old one goes on.
        """
        self.runtime.set_instruction(instruction)
        self.threads.notify()

    def exchange(self, loaded: LoadedPolicy) -> None:
        """Go on with another policy; it is warm and fits the robot.

        Raises:
            UserError: It needs inputs that are not observed, or cannot follow the present instruction.
        """
        old = self.loaded.predictor
        self.runtime.exchange(loaded.predictor)
        self.loaded = loaded
        old.close()

    def _subscribe(self, index: int) -> Any:
        spec, push = self.runtime.specs[index], self.runtime.push
        now_ns, notify = self.clock.now_ns, self.threads.notify

        def on_sample(raw: bytes) -> None:
            push(index, raw, now_ns())
            notify()

        def on_latched(raw: bytes) -> None:
            if spec.key != INSTRUCTION or self.runtime.is_ready_for(raw):
                self._latch(index, raw, now_ns())
            else:  # it has to be embedded first, and the callbacks that stamp must not wait for that
                threading.Thread(target=self._latch, args=(index, raw, now_ns()), name="latch", daemon=True).start()

        return self._node.create_subscription(
            message_class(spec.type),
            spec.topic,
            on_latched if spec.is_latched else on_sample,
            to_profile(spec.qos),
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._qos_reporter(spec.topic, "publisher")),
        )

    def _latch(self, index: int, raw: bytes, receive_ns: int) -> None:
        """Take a goal or an instruction; one that cannot be used is refused in a sentence."""
        try:
            with self._latching:
                self.runtime.push(index, raw, receive_ns)
        except UserError as reason:
            self._node.get_logger().warning(f"{self.runtime.specs[index].topic}: refused: {reason}")
        self.threads.notify()

    def _subscribe_episodes(self, topic: str) -> list[Any]:
        if not topic:
            return []
        return [self._node.create_subscription(EpisodeStatus, topic, self._on_episode_status, QoSProfile(depth=10))]

    def _advertise(self, sink: SinkSpec) -> Any:
        if sink.is_action:
            return GoalPublisher(self._node, message_class(sink.type), sink.topic)
        events = PublisherEventCallbacks(incompatible_qos=self._qos_reporter(sink.topic, "subscriber"))
        kind = message_class(sink.type)
        # Not a lifecycle publisher: the zero command of a deactivation goes out while the node is no longer active.
        return self._node.create_publisher(kind, sink.topic, to_profile(sink.qos), event_callbacks=events)

    def _qos_reporter(self, topic: str, other: str) -> Callable[[Any], None]:
        def report(event: Any) -> None:
            policy = qos_policy_name_from_kind(event.last_policy_kind)
            text = (
                f"{topic}: a {other} has an incompatible {policy} policy; set the topic's qos in the contract to match."
            )
            self.qos_problems[topic] = text
            self._node.get_logger().warning(text)

        return report

    def _on_episode_status(self, message: EpisodeStatus) -> None:
        stamp_ns = message.header.stamp.sec * NANOSECONDS + message.header.stamp.nanosec
        if self._episode is not None and message.episode != self._episode:
            self.runtime.begin_episode(stamp_ns)
        self._episode = message.episode
        self.runtime.episode_at(stamp_ns)
        self.threads.notify()

    def _on_time(self, went_back: bool) -> None:
        if went_back:
            self.runtime.time_went_back()
        self.threads.notify()

    def _publish(self, output: ControlOutput) -> None:
        """Encode everything first, then publish it all; in a dry run only what moves nothing."""
        ready = []
        for sink, publisher in self._publishers:
            if carries_chunks(sink.type):
                if output.chunk is not None and (output.moves or is_telemetry(sink.type)):
                    ready.append((publisher, encode_chunk(sink, self.contract, output.chunk)))
            elif output.command is not None:
                ready.append((publisher, encode_command(sink, self.contract.commanded, output.command)))
        for publisher, message in ready:
            publisher.publish(message)
