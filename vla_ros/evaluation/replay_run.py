"""One episode on its way through the runtime, message by message. Knows no file; time comes with the messages."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.checkpoint import Checkpoint
from vla_ros.contract import RobotContract
from vla_ros.data_types import NANOSECONDS, ActionChunk, DatasetError, Frame, first_tick_at_or_after, tick_ns
from vla_ros.evaluation.replay_report import ReplayTrace
from vla_ros.ros_io import ActionStream, Deserialize, ObservationPipeline
from vla_ros.ros_io.bags import BagMessage
from vla_ros.runtime import ChunkExecutor, PolicyRunner
from vla_ros.safety import SafetyFilter

INSTRUCTION_TYPE = "std_msgs/msg/String"

STAMPS_AHEAD_NS = NANOSECONDS // 2
"""How far stamps may run ahead of the recorder's clock, which under simulated time learns late what time it is."""


class EpisodeReplay:
    """One episode on its way through the runtime.

    Args:
        contract: The robot.
        checkpoint: The policy.
        deserialize: Bytes to message.
        latency_ns: From a tick to its chunk.
        chunk_mode: As `ChunkExecutor`.
        seed: As `PolicyRunner`.
    """

    def __init__(
        self,
        contract: RobotContract,
        checkpoint: Checkpoint,
        deserialize: Deserialize,
        *,
        latency_ns: int,
        chunk_mode: str,
        seed: int,
    ) -> None:
        self.instruction = ""
        self._contract, self._deserialize, self._latency_ns = contract, deserialize, latency_ns
        self._runner = PolicyRunner(checkpoint, seed=seed)
        self._executor = ChunkExecutor(
            contract.action, contract.fps, chunk_mode, n_action_steps=checkpoint.policy.config.n_action_steps
        )
        self._filter = SafetyFilter(contract)
        limits = contract.action.limits
        there, optional = contract.policy_features, self._runner.optional_keys
        keys = dict.fromkeys(key for key in self._runner.input_keys if key in there or key not in optional)
        if self._filter.needs_position:
            keys[limits.position_key] = None
            names = contract.feature(limits.position_key).names
            self._position_indices = [names.index(name) for name in limits.position_names]
        self._pipeline = ObservationPipeline(contract, deserialize, list(keys), self._runner.optional_keys)
        self.goal_stream = self._pipeline.goal_stream
        self._action = ActionStream(contract, deserialize)
        self._streams: dict[str, list[int]] = {}
        for index, spec in enumerate(self._pipeline.specs):
            self._streams.setdefault(spec.topic, []).append(index)

        self._tick = 0  # index of the next tick
        self._control = 0  # index of the next control moment
        self._busy_until_ns = 0  # one policy: the next prediction begins when the last one is ready
        self._coming: deque[ActionChunk] = deque()
        self._unanswered: deque[int] = deque()  # ticks whose recorded action may still change
        self._position: NDArray[np.generic] | None = None
        self._trace = ReplayTrace(len(contract.action.names))

    def topics(self) -> dict[str, str]:
        """Return the topics that must be in the bag, with their types."""
        record = self._contract.action.record
        return {**{spec.topic: spec.type for spec in self._pipeline.specs}, record.topic: record.type}

    def over(self, messages: Iterator[BagMessage]) -> ReplayTrace:
        """Play the messages in the order they were received.

        Raises:
            DatasetError: At no tick were all inputs there.
            DecodeError: A recorded action is not what the contract says.
        """
        for count, message in enumerate(messages):
            if count == 0:
                self._tick = first_tick_at_or_after(message.receive_ns, self._contract.fps)
            self._advance(message.receive_ns)  # ticks that were waited for until before this message
            self._take(message)
            self._advance(message.receive_ns)
        if not self._trace.stamps_ns:
            reasons = "; ".join(str(item) for item in self._trace.last_missing) or "the bag is shorter than a tick"
            raise DatasetError(f"No tick of the bag has all inputs of the policy: {reasons}.")
        self._control_until(self._trace.stamps_ns[-1] + 1)
        self._answer(final=True)
        self._trace.interventions = dict(sorted(self._filter.counts.items()))
        return self._trace

    def _take(self, message: BagMessage) -> None:
        for index in self._streams.get(message.topic, ()):
            self._pipeline.push(index, message.raw, message.receive_ns)
        if message.topic == self._contract.action.record.topic:
            self._action.push(message.raw, message.receive_ns)
            self._answer()
        if self.goal_stream is not None and message.topic == self.goal_stream.topic:
            self.set_goal(message.raw)
        if message.topic == self._contract.instruction.topic and message.type == INSTRUCTION_TYPE:
            told = str(self._deserialize(message.raw, message.type).data)
            if told != self.instruction:
                self.instruction = told
                self._begin_anew()

    def set_goal(self, raw: bytes) -> None:
        """Show the policy what to reach, as the node does at a new goal.

        Raises:
            DecodeError: It is no image.
        """
        self._pipeline.set_goal(raw)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Forget history, policy state and chunks, as the node does at a new instruction."""
        self._runner.reset()
        self._executor.clear()
        self._coming.clear()

    def _advance(self, now_ns: int) -> None:
        """Go through the ticks that are complete at a moment of the bag's clock."""
        while (stamp_ns := tick_ns(self._tick, self._contract.fps)) <= now_ns + STAMPS_AHEAD_NS:
            if not self._pipeline.complete(stamp_ns, now_ns):
                return
            self._tick += 1
            assembled = self._pipeline.assemble(stamp_ns, self.instruction)
            if not self._trace.stamps_ns:
                if assembled.frame is None:  # the recorder was running before the robot
                    self._trace.last_missing = assembled.missing
                    continue
                self._control = first_tick_at_or_after(stamp_ns, self._contract.control_rate_hz)
            self._control_until(stamp_ns)
            self._trace.add_tick(stamp_ns)
            self._unanswered.append(stamp_ns)
            if assembled.frame is None:
                self._trace.add_missing(assembled.missing)
                self._executor.clear()  # the node stops commanding as well; what it does instead is no prediction
                self._coming.clear()
            else:
                self._decide(assembled.frame)

    def _decide(self, frame: Frame) -> None:
        if self._filter.needs_position:
            key = self._contract.action.limits.position_key
            self._position = frame.values[key][self._position_indices]
        self._runner.observe(frame)
        if frame.stamp_ns < self._busy_until_ns:
            return
        self._busy_until_ns = frame.stamp_ns + self._latency_ns
        chunk = replace(self._runner.predict(), inference_ns=self._latency_ns)
        self._coming.append(chunk)
        self._trace.chunks.append(chunk)

    def _control_until(self, end_ns: int) -> None:
        """Command at every control moment before `end_ns`."""
        while (moment_ns := tick_ns(self._control, self._contract.control_rate_hz)) < end_ns:
            self._control += 1
            while self._coming and self._coming[0].observation_stamp_ns + self._latency_ns <= moment_ns:
                self._executor.submit(self._coming.popleft())
            command = self._executor.command_at(moment_ns).command
            if command is not None:
                command = self._filter.filter(command, self._position).command
            if command is not None:
                self._trace.add_command(moment_ns, command.action)

    def _answer(self, *, final: bool = False) -> None:
        """Note the recorded action of the ticks at which it cannot change any more."""
        while self._unanswered and (final or self._action.complete(self._unanswered[0])):
            stamp_ns = self._unanswered.popleft()
            self._trace.add_recorded(stamp_ns, self._action.value_at(stamp_ns))
