"""Writes one bag per episode in a thread of its own, so that who receives messages never waits for the disk. No ROS.

Beside each bag's MCAP file and metadata.yaml stand ``contract.yaml`` and, written last, ``episode.json``: a folder
without it was not finished.
"""

import json
import math
import re
import shutil
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Literal, NamedTuple

from vla_ros.bags.bag_writer import BagWriter
from vla_ros.contract import QosSpec, RobotContract, contract_text
from vla_ros.data_types import DatasetError, DecodeError
from vla_ros.messages.stamps import header_stamp_ns

Report = Callable[[Literal["info", "warning", "error"], str], None]
"""Takes a sentence for the log. Called from the writer's thread."""

_MAX_SAID = 4096
"""Messages of a latched topic that are repeated at the start of each bag: a node that publishes static transforms again
and again must not fill the memory."""

MAX_PENDING_BYTES = 512 * 1024 * 1024
"""Messages that wait for a disk this far behind are dropped, counted and reported rather than filling the memory."""


@dataclass(frozen=True)
class RecordedTopic:
    """One topic to record.

    Attributes:
        name: ROS topic.
        type: ROS type.
        qos: What players shall offer it with.
        stamped: Whether a time stands first in its messages, as a header or as the message itself.
        latched: Whether what was said before the episode still holds in it; repeated at the start of each bag.
        adds_up: Of a latched topic: whether its messages add up, as static transforms of many nodes do; of others the
            last one counts.
        watched: Whether silence during an episode is worth a warning.
    """

    name: str
    type: str
    qos: QosSpec
    stamped: bool = True
    latched: bool = False
    watched: bool = False
    adds_up: bool = False


class _Message(NamedTuple):
    arrived_s: float
    topic: int
    raw: bytes
    receive_ns: int


class _Stop(NamedTuple):
    facts: Mapping[str, Any]
    discard: bool
    reply: "Future[Path | None]"


class _Start(NamedTuple):
    facts: Mapping[str, Any]
    receive_ns: int
    begin_ns: int | None
    previous: _Stop
    reply: "Future[Path]"


class EpisodeRecorder:
    """Records topics into one bag per episode.

    Every method may be called from any thread and returns at once; what it asks for happens in order. Errors of the
    disk come back in the futures and through `report`; the recorder lives on.

    Args:
        output: Folder of the bags, created when the first begins; they are named ``episode_000000`` and on.
        contract: Copied beside each bag.
        topics: What to record; `record` counts them in this order.
        report: Where sentences for the log go.
        hold_back_s: How long messages are kept before they are written, so that those of a new episode which arrive
            before the news of it still go to its bag. 0 where episodes begin by command.
    """

    def __init__(
        self,
        output: Path,
        contract: RobotContract,
        topics: Sequence[RecordedTopic],
        report: Report,
        hold_back_s: float = 0.0,
    ) -> None:
        self.output, self.contract, self.topics = output, contract, tuple(topics)
        self._report, self._hold_back_s = report, hold_back_s
        self._contract_text = contract_text(contract) if Path(contract.source).is_file() else ""
        self._queue: SimpleQueue[_Message | _Start | _Stop | None] = SimpleQueue()
        self._pending: deque[_Message] = deque()
        self._latched: dict[int, list[bytes]] = {}
        self._bag: _Bag | None = None
        self._queued_bytes, self._written_bytes = 0, 0  # each written by one side only
        self._lost = 0
        self._thread = Thread(target=self._run, name="bag-writer", daemon=True)
        self._thread.start()

    def record(self, index: int, raw: bytes, receive_ns: int) -> None:
        """Take a serialised message of topic `index`, received at `receive_ns` of the node clock."""
        if self._queued_bytes - self._written_bytes > MAX_PENDING_BYTES:
            self._lost += 1
            return
        self._queued_bytes += len(raw)
        self._queue.put(_Message(time.monotonic(), index, raw, receive_ns))

    def start(
        self,
        facts: Mapping[str, Any],
        receive_ns: int,
        begin_ns: int | None = None,
        *,
        previous: Mapping[str, Any] | None = None,
        discard_previous: bool = False,
    ) -> "Future[Path]":
        """Begin an episode; one that is being recorded is finished first.

        Args:
            facts: Goes into episode.json.
            receive_ns: Now, by the node clock.
            begin_ns: Messages stamped before it belong to the episode before; None: go by the order of arrival.
            previous: Added to episode.json of the episode before, as by `stop`.
            discard_previous: Delete what was recorded of the episode before.

        Returns:
            The folder of the bag, or DatasetError when it cannot be written.
        """
        reply: Future[Path] = Future()
        stop = _Stop(dict(previous or {}), discard_previous, Future())
        self._queue.put(_Start(dict(facts), receive_ns, begin_ns, stop, reply))
        return reply

    def stop(self, facts: Mapping[str, Any], *, discard: bool = False) -> "Future[Path | None]":
        """Finish the episode.

        Args:
            facts: Added to episode.json.
            discard: Delete what was recorded.

        Returns:
            The folder of the finished or discarded bag, None when there was none, or DatasetError when it could not
            be written.
        """
        reply: Future[Path | None] = Future()
        self._queue.put(_Stop(dict(facts), discard, reply))
        return reply

    def close(self) -> None:
        """Write what is left, finish an open bag and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        while True:
            try:
                item = self._queue.get(timeout=self._hold_back_s or None)
            except Empty:
                self._write_pending(time.monotonic())
                continue
            if item is None:
                self._finish(_Stop({}, False, Future()))
                return
            if isinstance(item, _Message):
                self._take(item)
            elif isinstance(item, _Start):
                self._begin(item)
            else:
                self._finish(item)

    def _take(self, message: _Message) -> None:
        topic = self.topics[message.topic]
        if topic.latched:
            said = self._latched.setdefault(message.topic, [])
            if not topic.adds_up:
                said.clear()
            if message.raw not in said and len(said) < _MAX_SAID:
                said.append(message.raw)
        self._pending.append(message)
        # By the message's time, not the present one: news of an episode may wait behind it in the queue
        self._write_pending(message.arrived_s)

    def _write_pending(self, now_s: float) -> None:
        while self._pending and self._pending[0].arrived_s <= now_s - self._hold_back_s:
            self._write(self._pending.popleft())

    def _write(self, message: _Message) -> None:
        self._written_bytes += len(message.raw)
        if self._bag is not None and not self._bag.error:
            self._bag.write(message, self._stamp_ns(message))
            if self._bag.error:
                self._report("error", f"{self._bag.error}; recording of this episode has stopped")

    def _stamp_ns(self, message: _Message) -> int:
        if not self.topics[message.topic].stamped:
            return message.receive_ns
        try:
            return header_stamp_ns(message.raw)
        except DecodeError:
            return message.receive_ns  # recorded all the same: whoever reads the bag can say what is wrong with it

    def _begin(self, start: _Start) -> None:
        early: list[_Message] = []
        if start.begin_ns is not None:
            early = [m for m in self._pending if self._stamp_ns(m) >= start.begin_ns]
            self._pending = deque(m for m in self._pending if self._stamp_ns(m) < start.begin_ns)
        self._finish(start.previous)
        self._lost = 0
        try:
            self._bag = _Bag(_next_folder(self.output), self.contract, self._contract_text, self.topics, start)
        except DatasetError as reason:
            self._report("error", str(reason))
            start.reply.set_exception(reason)
            return
        for index, said in self._latched.items():
            for raw in said:
                self._bag.write(_Message(0.0, index, raw, start.receive_ns), None)
        self._pending.extend(early)
        self._report("info", f"recording {self._bag.path}")
        start.reply.set_result(self._bag.path)

    def _finish(self, stop: _Stop) -> None:
        self._write_pending(math.inf)
        bag, self._bag = self._bag, None
        if bag is None:
            stop.reply.set_result(None)
            return
        try:
            bag.finish({**stop.facts, "lost_messages": self._lost}, discard=stop.discard)
        except DatasetError as reason:
            self._report("error", str(reason))
            stop.reply.set_exception(reason)
            return
        self._report("info", f"{'discarded' if stop.discard else 'finished'} {bag.path}")
        if bag.silent and not stop.discard:
            self._report("warning", f"{bag.path}: nothing was received on {', '.join(bag.silent)} during the episode")
        if self._lost:
            self._report("warning", f"{bag.path}: {self._lost} messages lost, the disk is too slow")
        stop.reply.set_result(bag.path)


class _Bag:
    """The bag of one episode; used by the writer's thread alone."""

    def __init__(
        self, path: Path, contract: RobotContract, text: str, topics: Sequence[RecordedTopic], start: _Start
    ) -> None:
        self.path, self.contract, self.topics, self._start = path, contract, topics, start
        self._contract_text = text
        self.error: DatasetError | None = None
        self._last_ns = start.receive_ns
        self._writer = BagWriter(path)
        for topic in topics:
            self._writer.add_topic(topic.name, topic.type, topic.qos)

    @property
    def silent(self) -> tuple[str, ...]:
        """Watched topics on which nothing came."""
        return tuple(t.name for t in self.topics if t.watched and not self._writer.counts[t.name])

    def write(self, message: _Message, stamp_ns: int | None) -> None:
        """Append a message, unless it is a late one of the episode before."""
        begin_ns = self._start.begin_ns
        if stamp_ns is not None and begin_ns is not None and stamp_ns < begin_ns:
            return
        topic = self.topics[message.topic]
        self._last_ns = max(self._last_ns, message.receive_ns)
        try:
            self._writer.write(topic.name, topic.type, message.raw, message.receive_ns)
        except DatasetError as reason:
            self.error = reason

    def finish(self, facts: Mapping[str, Any], *, discard: bool) -> None:
        """Close the bag and write what is to know about it, or delete it.

        Raises:
            DatasetError: The disk did not take all of it.
        """
        try:
            self._writer.close()
        except DatasetError as reason:
            self.error = self.error or reason
        try:
            if discard:
                shutil.rmtree(self.path)
                return
            if self.error is not None:
                raise self.error
            self._describe(facts)
        except OSError as reason:
            raise DatasetError(f"{self.path}: cannot be finished: {reason.strerror or reason}") from reason

    def _describe(self, facts: Mapping[str, Any]) -> None:
        if self._contract_text:
            (self.path / "contract.yaml").write_text(self._contract_text, encoding="utf-8")
        episode = {
            "contract_hash": self.contract.hash,
            "robot_type": self.contract.robot_type,
            "instruction": "",
            "success": None,
            "task": None,
            "seed": None,
            "started_ns": self._start.receive_ns,
            "ended_ns": self._last_ns,
            "messages": self._writer.counts,
            "silent_topics": list(self.silent),
            **self._start.facts,
            **facts,
        }
        (self.path / "episode.json").write_text(json.dumps(episode, indent=2) + "\n", encoding="utf-8")


def _next_folder(output: Path) -> Path:
    """Return the folder after the last episode that stands in `output`."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        names = [entry.name for entry in output.iterdir()]
    except OSError as reason:
        raise DatasetError(f"{output}: bags cannot be written here: {reason.strerror or reason}") from reason
    numbers = [int(found[1]) for name in names if (found := re.fullmatch(r"episode_(\d{6})", name))]
    return output / f"episode_{max(numbers, default=-1) + 1:06d}"
