"""The observer of a rollout: resets the simulated robot, watches the episode, notes when every message arrived.

It commands nothing. Its callbacks note and append; what the notes mean is decided in `vla_ros.evaluation`.
"""

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import rclpy
from rclpy.context import Context
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from vla_ros.contract import AlignmentSpec, InputSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import has_header, message_types
from vla_ros.data_types import NANOSECONDS, ContractError, UserError
from vla_ros.evaluation.rollout_report import UNKNOWN_OBSERVATION, CommandRecord, EpisodeTrace
from vla_ros.messages.decoders import decode_action, decode_input
from vla_ros.messages.encoders import is_telemetry, message_class
from vla_ros.messages.executor import make_executor, spin_until
from vla_ros.messages.rclpy_deserialize import deserialize
from vla_ros.rollouts.process_group import ChildProcess, ProcessGroup
from vla_ros.sim.command_reader import TRAJECTORY
from vla_ros_msgs.msg import ActionChunk, EpisodeStatus, PolicyStatus
from vla_ros_msgs.srv import ResetEpisode

CHUNK_TYPE = "vla_ros_msgs/msg/ActionChunk"
SCAN_TYPE, ODOMETRY_TYPE = "sensor_msgs/msg/LaserScan", "nav_msgs/msg/Odometry"
# Best effort matches every publisher; deep, so that a busy moment of the client loses no arrival.
_WATCH = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
_RELIABLE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
_SILENT_S = 30.0
_ANSWER_S = 30.0


class RolloutClient:
    """Resets episodes and traces them. A context manager; its node spins in its own thread meanwhile.

    Attributes:
        command_sink: The sink that it watches: an EndEffectorAction, else the first that moves the robot.
        robot_status: Newest status of the robot, None before the first.
        policy_status: Newest status of the policy node, None before the first.
        commands_seen: Commands since it started.
    """

    def __init__(
        self, contract: RobotContract, environment: Mapping[str, str], policy_node: str = "policy_node"
    ) -> None:
        """Prepare; the node starts on entering.

        Args:
            contract: Names the topics.
            environment: ROS variables of the run, put into this process's environment.
            policy_node: Name of the policy node, whose status is watched.

        Raises:
            ContractError: No message of the robot's sinks can be read, from which commands are measured.
        """
        self._contract = contract
        self.command_sink = measured_sink(contract)
        sink = self.command_sink
        self._record = RecordSpec(
            sink.topic, sink.type, sink.qos, AlignmentSpec(), 1.0, names=sink.names, ros_names=sink.ros_names
        )
        self._environment = {k: v for k, v in environment.items() if os.environ.get(k) != v}
        self._policy_node = policy_node
        self._trace: EpisodeTrace | None = None
        self._previous_episode = 0
        self._time_limit_ns = self._linger_ns = 0
        self._ended, self._closing = threading.Event(), threading.Event()
        self._status_wall_s = time.monotonic()
        self.robot_status: EpisodeStatus | None = None
        self.policy_status: PolicyStatus | None = None
        self.commands_seen = 0

    def __enter__(self) -> "RolloutClient":
        os.environ.update(self._environment)  # the middleware reads them when the context starts
        self._context = Context()
        rclpy.init(context=self._context, signal_handler_options=SignalHandlerOptions.NO)
        self._node = Node("rollout_client", context=self._context, enable_rosout=False, start_parameter_services=False)
        self._image_subscriptions: list[Any] = []
        self._reset = self._node.create_client(ResetEpisode, "/sim/reset_episode")
        self._subscribe()
        self._executor = make_executor(self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._spin, name="rollout_client", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    @property
    def node(self) -> Node:
        """The node, for further clients and subscriptions of the same run."""
        return self._node

    @property
    def task(self) -> str:
        """Name of the robot's task; empty before its first status."""
        return "" if self.robot_status is None else str(self.robot_status.task)

    def robot_is_ready(self) -> bool:
        """Return whether the robot publishes its status and serves its resets."""
        return self.robot_status is not None and bool(self._reset.service_is_ready())

    def policy_is_commanding(self) -> bool:
        """Return whether the policy node says that it commands from action chunks."""
        return self.policy_status is not None and self.policy_status.state == PolicyStatus.RUNNING

    def run_episode(
        self,
        group: ProcessGroup,
        robot: ChildProcess,
        seed: int,
        *,
        time_limit_s: float,
        linger_s: float = 0.0,
        with_images: bool = False,
    ) -> EpisodeTrace:
        """Reset the robot to a start state and watch until success or the time limit.

        Args:
            group: Processes of the run, watched meanwhile.
            robot: The robot's process, quoted when it does not answer.
            seed: Start state.
            time_limit_s: Robot time after which the episode has failed.
            linger_s: Robot time to go on for after success.
            with_images: Keep every camera image.

        Raises:
            ChildFailedError: A process ended or the robot fell silent.
            UserError: The robot refused the reset, in its own words.
        """
        self._time_limit_ns, self._linger_ns = round(time_limit_s * NANOSECONDS), round(linger_s * NANOSECONDS)
        trace = EpisodeTrace(seed=seed)
        self._subscribe_images(trace if with_images else None)
        self._ended.clear()
        self._previous_episode = self.robot_status.episode if self.robot_status is not None else 0
        self._trace = trace  # before the reset: in lock-step the first ticks may precede its answer
        answer = self._reset.call_async(ResetEpisode.Request(seed=seed))
        group.wait_until(answer.done, "answer the reset", robot, _ANSWER_S)
        response = answer.result()
        if not response.success:
            raise UserError(f"The robot refused to reset to start {seed}: {response.message}")
        self._status_wall_s = time.monotonic()
        while not self._ended.wait(0.1):
            group.check()
            if time.monotonic() - self._status_wall_s > _SILENT_S:
                raise robot.too_slow("publish /sim/episode_status", _SILENT_S)
        self._trace = None
        return _within_episode(trace)

    def _spin(self) -> None:
        with contextlib.suppress(ExternalShutdownException):  # how the executor says that the context has ended
            spin_until(self._executor, self._closing.is_set)

    def _subscribe(self) -> None:
        create, policy = self._node.create_subscription, f"/{self._policy_node}/status"
        create(Clock, "/clock", self._on_clock, _WATCH)
        create(EpisodeStatus, "/sim/episode_status", self._on_status, _WATCH)
        create(message_class(self.command_sink.type), self.command_sink.topic, self._on_command, _RELIABLE)
        create(PolicyStatus, policy, self._on_policy_status, _WATCH)
        for sink in self._contract.action.sinks:
            if sink.type == CHUNK_TYPE:
                create(ActionChunk, sink.topic, self._on_chunk, _WATCH)

    def _subscribe_images(self, trace: EpisodeTrace | None) -> None:
        """Subscribe to the cameras only while they are recorded: an unused image costs both ends its transport."""
        for subscription in self._image_subscriptions:
            self._node.destroy_subscription(subscription)
        cameras = [spec for spec in self._contract.inputs if spec.image is not None] if trace is not None else []
        self._image_subscriptions = [
            self._node.create_subscription(
                message_class(spec.type), spec.topic, lambda raw, spec=spec: self._on_image(spec, raw), _WATCH, raw=True
            )
            for spec in cameras
        ]
        if trace is not None:
            self._watch_base()
            trace.images.update({spec.key: [] for spec in cameras})

    def _watch_base(self) -> None:
        """Subscribe to what a base sees and where it believes to be, for its plan view."""
        if self._contract.commanded.action.representation != "planar_twist":
            return
        watched = {SCAN_TYPE: self._on_scan, ODOMETRY_TYPE: self._on_odometry}
        for spec in self._contract.inputs:
            callback = watched.pop(spec.type, None)  # the first of each
            if callback is not None:
                subscribe = self._node.create_subscription
                self._image_subscriptions.append(subscribe(message_class(spec.type), spec.topic, callback, _WATCH))

    def _on_scan(self, message: Any) -> None:
        if (trace := self._trace) is not None:
            ranges = np.asarray(message.ranges, np.float64)
            angles = message.angle_min + message.angle_increment * np.arange(len(ranges))
            hit = np.isfinite(ranges)
            points = np.stack((ranges * np.cos(angles), ranges * np.sin(angles)), axis=1)[hit]
            trace.scans.append((_stamp_ns(message.header.stamp), points))

    def _on_odometry(self, message: Any) -> None:
        if (trace := self._trace) is not None:
            pose = message.pose.pose
            yaw = 2.0 * np.arctan2(pose.orientation.z, pose.orientation.w)
            here = np.array((pose.position.x, pose.position.y, yaw))
            trace.poses.append((_stamp_ns(message.header.stamp), here))

    def _on_clock(self, message: Clock) -> None:
        now_ns = time.monotonic_ns()
        if (trace := self._trace) is not None:
            trace.clock.append((_stamp_ns(message.clock), now_ns))

    def _on_command(self, message: Any) -> None:
        now_ns = time.monotonic_ns()
        self.commands_seen += 1
        if (trace := self._trace) is not None:
            action = self._action(message)
            stamped = has_header(self.command_sink.type)
            effect_ns = _stamp_ns(message.header.stamp) if stamped else trace.end_ns
            observed = getattr(message, "observation_stamp", None)
            observed_ns = UNKNOWN_OBSERVATION if observed is None else _stamp_ns(observed)
            trace.commands.append(CommandRecord(now_ns, effect_ns, observed_ns, action))

    def _action(self, message: Any) -> Any:
        if self.command_sink.type == TRAJECTORY:  # measured by the first of its waypoints
            message.points = message.points[:1]
        return decode_action(self._contract.commanded.action, self.command_sink.type, message, self._record)

    def _on_chunk(self, message: ActionChunk) -> None:
        now_ns = time.monotonic_ns()
        if (trace := self._trace) is not None:
            trace.chunks.append((now_ns, _stamp_ns(message.header.stamp)))
            if trace.images:
                plan = np.array(message.actions).reshape(message.horizon, message.action_dim)
                trace.plans.append((_stamp_ns(message.header.stamp), plan))

    def _on_image(self, spec: InputSpec, raw: bytes) -> None:
        if (trace := self._trace) is not None:
            message = deserialize(raw, spec.type)
            trace.images[spec.key].append((_stamp_ns(message.header.stamp), decode_input(spec, message)))

    def _on_policy_status(self, message: PolicyStatus) -> None:
        self.policy_status = message
        if (trace := self._trace) is not None and message.state in {PolicyStatus.HOLDING, PolicyStatus.STOPPED}:
            trace.note = message.message

    def _on_status(self, message: EpisodeStatus) -> None:
        self.robot_status, self._status_wall_s = message, time.monotonic()
        trace = self._trace
        if (
            trace is None
            or self._ended.is_set()
            or message.episode <= self._previous_episode
            or message.seed != trace.seed
        ):
            return
        stamp_ns = _stamp_ns(message.header.stamp)
        if not trace.episode:
            trace.episode = message.episode
            trace.start_ns = stamp_ns - round(message.elapsed * NANOSECONDS)
        trace.end_ns, trace.task = stamp_ns, message.task
        trace.ticks += 1
        trace.halted_ticks += message.halted
        trace.reward += message.reward
        if message.success and trace.success_ns is None:
            trace.success_ns = stamp_ns
        failed = trace.success_ns is None and stamp_ns - trace.start_ns >= self._time_limit_ns
        if failed or (trace.success_ns is not None and stamp_ns - trace.success_ns >= self._linger_ns):
            self._ended.set()


def measured_sink(contract: RobotContract) -> SinkSpec:
    """Return the sink from which a robot's commands are measured.

    An EndEffectorAction, which says which observation it answers; else the first whose messages can be read.

    Raises:
        ContractError: There is none.
    """
    action = contract.commanded.action
    rows = message_types()
    readable = [
        (sink.type.endswith("/EndEffectorAction"), sink)
        for sink in action.sinks
        if not is_telemetry(sink.type)
        and (row := rows[sink.type].as_record)
        and action.representation in row.representations
    ]
    if not readable:
        raise ContractError(
            f"{contract.source}: the messages of no sink can be read, from which a rollout measures commands; add a "
            "sink of a type that is also listed as recorded action, see docs/message_types.md."
        )
    return max(readable, key=lambda entry: entry[0])[1]


def _stamp_ns(stamp: Any) -> int:
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def _within_episode(trace: EpisodeTrace) -> EpisodeTrace:
    """Drop what still belonged to the episode before."""
    start = trace.start_ns
    trace.commands = [
        c for c in trace.commands if c.effect_ns >= start and (c.observation_ns <= 0 or c.observation_ns >= start)
    ]
    trace.chunks = [chunk for chunk in trace.chunks if chunk[1] >= start]
    for kept in (trace.scans, trace.poses, trace.plans):
        kept[:] = [entry for entry in kept if entry[0] >= start]
    trace.clock = [pair for pair in trace.clock if pair[0] >= start]
    trace.images = {key: [item for item in images if item[0] >= start] for key, images in trace.images.items()}
    return trace
