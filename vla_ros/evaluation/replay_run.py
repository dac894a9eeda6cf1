"""One episode on its way through the runtime, message by message. Knows no file; time comes with the messages."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from vla_ros.bags import BagMessage
from vla_ros.checkpoint import Checkpoint
from vla_ros.contract import INSTRUCTION, RobotContract
from vla_ros.converters.feed import Sample
from vla_ros.data_types import DatasetError, UserError, first_tick_at_or_after, tick_ns
from vla_ros.evaluation.replay_report import ReplayTrace
from vla_ros.runtime import Decision, ManualClock, PolicyRuntime, RuntimeOptions, TickResult, TorchPredictor
from vla_ros.streams import ActionStream, Deserialize


class EpisodeReplay:
    """One episode on its way through the runtime, which is the policy node's.

    Args:
        contract: The robot.
        checkpoint: The policy.
        deserialize: Bytes to message.
        latency_ns: From a tick to its chunk.
        options: How the policy is run.
        seed: As `TorchPredictor`.
    """

    def __init__(
        self,
        contract: RobotContract,
        checkpoint: Checkpoint,
        deserialize: Deserialize,
        *,
        latency_ns: int,
        options: RuntimeOptions,
        seed: int,
    ) -> None:
        self._contract, self._latency_ns = contract, latency_ns
        self._clock = ManualClock()
        predictor = TorchPredictor(checkpoint, seed=seed)
        self.runtime = PolicyRuntime(contract, predictor, deserialize, self._clock, options)
        self.runtime.start()
        self._action = ActionStream(contract, deserialize)
        self._streams: dict[tuple[str, str], list[int]] = {}
        for index, spec in enumerate(self.runtime.specs):
            self._streams.setdefault((spec.topic, spec.type), []).append(index)
        self._control: int | None = None  # index of the next control moment
        self._next_tick = 0  # index of the next tick
        self._busy_until_ns = 0  # one policy: the next prediction begins when the last one is ready
        self._coming: deque[Decision] = deque()
        self._unanswered: deque[int] = deque()  # ticks whose recorded action may still change
        self._trace = ReplayTrace(len(contract.action.names))

    def topics(self) -> dict[str, str]:
        """Return the topics that must be in the bag, with their types."""
        sampled = {spec.topic: spec.type for spec in self.runtime.specs if not (spec.is_latched or spec.is_static)}
        return {**sampled, **{record.topic: record.type for record in self._action.records}}

    def latch(self, key: str, raw: bytes) -> None:
        """Let a serialised goal hold from the start.

        Raises:
            UserError: It is not what the contract says.
        """
        index = next(i for i, spec in enumerate(self.runtime.specs) if spec.key == key)
        self.runtime.push(index, raw, 0)

    def over(self, messages: Iterator[BagMessage]) -> ReplayTrace:
        """Play the messages in the order they were received.

        Raises:
            DatasetError: At no tick were all inputs there.
            DecodeError: A recorded action is not what the contract says.
            UserError: An instruction of the bag cannot be made ready on this machine.
        """
        for message in messages:
            self._clock.set(message.receive_ns - 1)
            self._advance()  # ticks that were waited for until before this message
            self._clock.set(message.receive_ns)
            self._take(message)
            self._advance()
        return self._finished()

    def over_ticks(self, items: Iterator[Sample | BagMessage | int], max_wait_ns: int) -> ReplayTrace:
        """Play samples with the ticks between them, as `converters.samples_and_ticks` has them; errors as `over`.

        What belongs to a tick is then decided by whoever made the list, and by no clock.

        Args:
            items: Samples, latched messages, and the stamps of ticks in ns.
            max_wait_ns: How long after a tick the runtime waits for its samples.
        """
        for item in items:
            if isinstance(item, int):
                self._clock.set(item)
                if not self._step():
                    self._clock.set(item + max_wait_ns)
                    self._step()
            elif isinstance(item, Sample):
                self._take_sample(item)
            else:
                self._take(item)
        return self._finished()

    def _finished(self) -> ReplayTrace:
        if not self._trace.stamps_ns:
            reasons = "; ".join(str(item) for item in self._trace.last_missing) or "the bag is shorter than a tick"
            raise DatasetError(f"No tick of the bag has all inputs of the policy: {reasons}.")
        self._control_until(self._trace.stamps_ns[-1] + 1, final=True)
        last_ns = self._trace.stamps_ns[-1]
        self._trace.commands = {stamp: action for stamp, action in self._trace.commands.items() if stamp <= last_ns}
        self._answer(final=True)
        self._trace.interventions = dict(sorted(self.runtime.safety.counts.items()))
        return self._trace

    def _take(self, message: BagMessage) -> None:
        for index in self._streams.get((message.topic, message.type), ()):
            self._push(index, message)
        for index, record in enumerate(self._action.records):
            if message.topic == record.topic:
                self._action.push(message.raw, message.receive_ns, index)
                self._answer()

    def _take_sample(self, sample: Sample) -> None:
        if sample.stream < 0:
            self._action.push(sample.raw, sample.arrival_ns, -1 - sample.stream)
            self._answer()
            return
        wanted = self._contract.inputs[sample.stream]
        for index, spec in enumerate(self.runtime.specs):
            if (spec.key, spec.topic, spec.is_static) == (wanted.key, wanted.topic, False):
                self.runtime.push(index, sample.raw, sample.arrival_ns)

    def _push(self, index: int, message: BagMessage) -> None:
        try:
            self.runtime.push(index, message.raw, message.receive_ns)
        except UserError as reason:
            if self.runtime.specs[index].key == INSTRUCTION:
                raise
            self._trace.refused.append(str(reason))  # a goal that is none; the node goes on as well

    def _advance(self) -> None:
        """Go through the ticks that are complete at this moment of the bag's clock."""
        self._control_until(self._clock.now_ns() + 1)
        while self._step():
            pass

    def _step(self) -> bool:
        """Go through the next tick if it is complete; return whether it was."""
        observed = self.runtime.observe(every_tick=True)
        if observed is None:
            return False
        stamp_ns = observed.stamp_ns
        if not self._trace.stamps_ns:
            if observed.frame is None:  # the recorder was running before the robot
                self._trace.last_missing = observed.missing
                return True
            self._control = first_tick_at_or_after(stamp_ns, self._contract.control_rate_hz)
        self._next_tick = first_tick_at_or_after(stamp_ns + 1, self._contract.fps)
        self._trace.add_tick(stamp_ns)
        self._unanswered.append(stamp_ns)
        if observed.frame is None:
            self._trace.add_missing(observed.missing)
        else:
            self._decide(observed)
        self._control_until(max(stamp_ns, self._clock.now_ns()) + 1)
        return True

    def _decide(self, observed: TickResult) -> None:
        if observed.stamp_ns < self._busy_until_ns:
            return
        self._busy_until_ns = observed.stamp_ns + self._latency_ns
        decision = self.runtime.decide()
        if decision is None:
            return
        if decision.chunk is not None:
            chunk = replace(decision.chunk, inference_ns=self._latency_ns)
            decision = replace(decision, chunk=chunk)
            self._trace.chunks.append(chunk)
        self._coming.append(decision)

    def _control_until(self, end_ns: int, *, final: bool = False) -> None:
        """Command at every control moment before `end_ns` that no later tick can still have a say in."""
        if self._control is None:
            return
        rate_hz = self._contract.control_rate_hz
        decided_ns = tick_ns(self._next_tick, self._contract.fps) + self._latency_ns
        end_ns = end_ns if final else min(end_ns, decided_ns)
        while (moment_ns := tick_ns(self._control, rate_hz)) < end_ns:
            self._control += 1
            while self._coming and self._coming[0].observed.stamp_ns + self._latency_ns <= moment_ns:
                decision = self._coming.popleft()
                self.runtime.deliver(decision, decision.observed.stamp_ns + self._latency_ns)
            output = self.runtime.control(moment_ns)
            if output.command is not None and not self.runtime.controller.status.missing:
                self._trace.add_command(moment_ns, output.command.action)

    def _answer(self, *, final: bool = False) -> None:
        """Note the recorded action of the ticks at which it cannot change any more."""
        while self._unanswered and (final or self._action.complete(self._unanswered[0])):
            stamp_ns = self._unanswered.popleft()
            self._trace.add_recorded(stamp_ns, self._action.value_at(stamp_ns))
