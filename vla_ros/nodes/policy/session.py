"""What the policy node has while it is configured: the loaded policy, its threads, subscriptions and publishers."""

import gc
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_policy_name_from_kind
from std_msgs.msg import String

from vla_ros.contract import GOAL_IMAGE, SinkSpec
from vla_ros.data_types import NANOSECONDS, ActionChunk, Command, ConfigError, DecodeError
from vla_ros.nodes.common.parameters import Value
from vla_ros.nodes.policy.node_clock import NodeClock
from vla_ros.ros_io import MissingInput, ObservationPipeline
from vla_ros.ros_io.encoders import CHUNK_SINKS, check_sinks, encode_chunk, encode_command, message_class
from vla_ros.ros_io.qos import to_profile
from vla_ros.ros_io.rclpy_deserialize import deserialize
from vla_ros.runtime import ChunkExecutor
from vla_ros.runtime.control_loop import CommandSink, ControlLoop
from vla_ros.runtime.inference_worker import InferenceWorker, TickResult
from vla_ros.runtime.loading import LoadedPolicy
from vla_ros.safety import SafetyFilter
from vla_ros_msgs.msg import EpisodeStatus

_NEVER = -1


class PolicySession:
    """Everything between configure and cleanup. Callbacks stamp and store; the two threads do the work.

    Args:
        node: Owns the subscriptions and publishers.
        values: The node's parameters.
        loaded: The policy and the robot.
        enabled: Whether commands may be published; False is a dry run.

    Raises:
        UserError: A sink cannot carry the action, a message package is missing, or a parameter contradicts the policy.
    """

    def __init__(
        self, node: LifecycleNode, values: Mapping[str, Value], loaded: LoadedPolicy, enabled: Callable[[], bool]
    ) -> None:
        self.loaded, self.contract = loaded, loaded.contract
        self._node = node
        contract, config = self.contract, loaded.checkpoint.policy.config
        check_sinks(contract)
        self.clock = NodeClock(node.get_clock())
        self.safety = SafetyFilter(contract)
        there = contract.policy_features
        keys = {key for key in loaded.runner.input_keys if key in there or key not in loaded.runner.optional_keys}
        if self.safety.needs_position:
            keys.add(contract.action.limits.position_key)
        self.pipeline = ObservationPipeline(contract, deserialize, keys, loaded.runner.optional_keys)
        self._received_ns = [_NEVER] * len(self.pipeline.specs)
        self._limits_ns = [round(spec.max_age_s * NANOSECONDS) for spec in self.pipeline.specs]
        self._own_steps = int(values["n_action_steps"])  # 0: the policy's
        self.executor = ChunkExecutor(
            contract.action,
            contract.fps,
            str(values["chunk_mode"]),
            n_action_steps=self._own_steps or config.n_action_steps,
            ensemble_decay=float(values["ensemble_decay"]),
        )
        self.worker = InferenceWorker(
            loaded.runner,
            self.pipeline,
            self.executor,
            self.clock,
            fps=contract.fps,
            n_obs_steps=config.n_obs_steps,
            max_wait_s=contract.max_wait_s,
            follows_episodes=bool(values["episode_status_topic"]),
            on_result=self._on_result,
        )
        self.control = ControlLoop(
            contract,
            self.executor,
            self.safety,
            self.clock,
            CommandSink(self._publish_command, self._publish_chunk, enabled),
            stale_inputs=self._stale_inputs,
            newest_result=lambda: self.worker.result,
            lock_step=bool(values["lock_step"]),
        )
        self.worker.instruction = str(values["instruction"]) or contract.instruction.default
        self.clock.listen(self._on_time)
        self.qos_problems: dict[str, str] = {}
        self._episode: int | None = None
        self._subscriptions = [self._subscribe_input(index) for index in range(len(self.pipeline.specs))]
        self._subscriptions += self._subscribe_others(str(values["episode_status_topic"]))
        self._publishers = [(sink, self._advertise(sink)) for sink in contract.action.sinks]

    def start(self) -> None:
        """Begin to observe, decide and command."""
        gc.collect()
        gc.freeze()  # what was loaded lives on; looking at it again would only cost control ticks
        gc.disable()  # the inference thread collects between predictions
        self.safety.reset()
        self.executor.clear()
        self.pipeline.clear()
        self._received_ns[:] = [_NEVER] * len(self._received_ns)
        self.worker.start()
        self.control.start()

    def stop(self) -> None:
        """Command zero motion, then end both threads."""
        self.control.stop()
        self.worker.stop()
        gc.enable()
        gc.unfreeze()

    def close(self) -> None:
        """Give up subscriptions and publishers."""
        self.clock.close()
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for _, publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def set_instruction(self, instruction: str) -> None:
        """Tell the policy what to do; a new text begins a new episode."""
        if instruction != self.worker.instruction:
            self.worker.instruction = instruction
            self.worker.restart()

    def set_goal(self, raw: bytes) -> None:
        """Show the policy what to reach, a serialised image; a new episode begins. One that is no image is no goal."""
        try:
            self.pipeline.set_goal(raw)
        except DecodeError as reason:
            self._node.get_logger().warning(f"goal refused, the policy has none now: {reason}")
        self.worker.restart()

    def check_exchange(self, loaded: LoadedPolicy) -> None:
        """Refuse a policy that needs inputs which are not subscribed.

        Raises:
            ConfigError: Names them.
        """
        taken = {spec.key for spec in self.pipeline.specs} | ({GOAL_IMAGE} if self.pipeline.goal_stream else set())
        missing = sorted(set(loaded.runner.input_keys) - taken)
        if missing:
            raise ConfigError(
                f"{loaded.checkpoint.path} needs {', '.join(missing)}, which the running policy does not take; "
                "clean the node up and configure it with this checkpoint."
            )

    def exchange(self, loaded: LoadedPolicy) -> None:
        """Go on with another policy; it is warm and fits the robot."""
        self.loaded = loaded
        config = loaded.checkpoint.policy.config
        self.executor.follow(self._own_steps or config.n_action_steps)
        self.worker.exchange(loaded.runner, config.n_obs_steps)

    def _subscribe_input(self, index: int) -> Any:
        spec, push, received = self.pipeline.specs[index], self.pipeline.push, self._received_ns
        now_ns, notify = self.clock.now_ns, self.worker.notify

        def on_message(raw: bytes) -> None:
            received[index] = stamp_ns = now_ns()
            push(index, raw, stamp_ns)
            notify()

        return self._node.create_subscription(
            message_class(spec.type),
            spec.topic,
            on_message,
            to_profile(spec.qos),
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._qos_reporter(spec.topic, "publisher")),
        )

    def _subscribe_others(self, episode_topic: str) -> list[Any]:
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        topic = self.contract.instruction.topic
        subscribe = self._node.create_subscription
        subscriptions = [subscribe(String, topic, lambda message: self.set_instruction(message.data), latched)]
        goal = self.pipeline.goal_stream
        if goal is not None:
            kind, qos = message_class(goal.type), to_profile(goal.qos)
            subscriptions.append(subscribe(kind, goal.topic, self.set_goal, qos, raw=True))
        if episode_topic:
            subscriptions.append(subscribe(EpisodeStatus, episode_topic, self._on_episode_status, QoSProfile(depth=10)))
        return subscriptions

    def _advertise(self, sink: SinkSpec) -> Any:
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
            self.pipeline.discard_before(stamp_ns)  # or the first ticks would still see the end of the last episode
            self.worker.restart(stamp_ns)
        self._episode = message.episode
        self.worker.episode_at(stamp_ns)

    def _on_time(self, went_back: bool) -> None:
        if went_back:
            self.pipeline.clear()
            self._received_ns[:] = [_NEVER] * len(self._received_ns)
            self.safety.reset()
            self.worker.restart(clock_went_back=True)
        self.worker.notify()

    def _on_result(self, result: TickResult) -> None:
        self.control.on_result(result)

    def _stale_inputs(self, now_ns: int) -> tuple[MissingInput, ...]:
        """Inputs from which nothing has come for longer than their limit; found before the next tick would find it."""
        ages_ns = [now_ns - received if received != _NEVER else None for received in self._received_ns]
        if all(age is not None and age <= limit for age, limit in zip(ages_ns, self._limits_ns, strict=True)):
            return ()
        return tuple(
            MissingInput(
                spec.key,
                spec.topic,
                float("inf") if age is None else age / NANOSECONDS,
                spec.max_age_s,
                "silent" if age is None else "stale",
                spec.on_missing,
            )
            for spec, age, limit in zip(self.pipeline.specs, ages_ns, self._limits_ns, strict=True)
            if age is None or age > limit
        )

    def _publish_command(self, command: Command) -> None:
        sinks = [(sink, publisher) for sink, publisher in self._publishers if sink.type not in CHUNK_SINKS]
        messages = [encode_command(sink, self.contract, command) for sink, _ in sinks]
        for (_, publisher), message in zip(sinks, messages, strict=True):
            publisher.publish(message)

    def _publish_chunk(self, chunk: ActionChunk) -> None:
        sinks = [(sink, publisher) for sink, publisher in self._publishers if sink.type in CHUNK_SINKS]
        messages = [encode_chunk(sink, self.contract, chunk) for sink, _ in sinks]
        for (_, publisher), message in zip(sinks, messages, strict=True):
            publisher.publish(message)
