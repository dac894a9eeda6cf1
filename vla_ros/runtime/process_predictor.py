"""A predictor in a process of its own: a model that hangs or dies takes nothing else with it. No torch in this process.

Python-heavy work of a forward pass keeps the interpreter's lock and with it the control thread; in another process it
does not. A process that does not answer in time, or that dies, is ended and replaced while the robot stands still.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import RobotContract
from vla_ros.data_types import Observation, UserError, errors
from vla_ros.runtime.observation_memory import ObservationMemory, bytes_needed
from vla_ros.runtime.predictor import PredictorSpec

COMMAND = (sys.executable, "-m", "vla_ros.runtime.inference_process")
LOADING_S = 300.0
"""How long loading may take, s; a language model from a slow disk takes minutes."""
_STEP_S = 0.05
_RETRY_S = 1.0
_RETRY_S = 1.0
_MAX_STEPS = 64  # frames of an observation that the shared memory holds; checked when the policy has told its own

_LOG = logging.getLogger(__name__)


class InferenceError(UserError):
    """The inference process did not answer, or failed; the sentence says what happens next."""


class ProcessPredictor:
    """Runs a checkpoint in a process of its own; see `Predictor`.

    Args:
        contract: The robot.
        values: The node's parameters, as `load_policy` takes them, with ``torch_threads``.
        max_inference_s: A prediction that takes longer, in s, is given up, and the process replaced.
        command: What starts the process; its last argument is added.

    Attributes:
        spec: What the policy takes and gives.

    Raises:
        UserError: The checkpoint cannot be loaded or does not fit the robot.
    """

    def __init__(
        self,
        contract: RobotContract,
        values: Mapping[str, Any],
        max_inference_s: float,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self._contract, self._values, self._command = contract, dict(values), tuple(command)
        self._max_inference_s = max_inference_s
        self._lock = threading.Lock()
        self._closed = False
        self._begins = True
        self._worker: _Worker | None = self._start()
        ready = self._worker.ready
        self.spec: PredictorSpec = ready["spec"]
        self._known: set[str] | None = None if ready["instructions"] is None else set(ready["instructions"])
        self.threads = int(ready["threads"])

    def begin_episode(self) -> None:
        """Forget the policy's state, with the next prediction."""
        self._begins = True

    def is_prepared(self, instruction: str) -> bool:
        """Whether the instruction is known to be embedded, or the policy reads none."""
        return self._known is None or instruction in self._known

    def prepare(self, instruction: str) -> None:
        """Embed an instruction in the process, beside a prediction under way.

        Raises:
            UserError: It cannot, or the process is being replaced.
        """
        if self.is_prepared(instruction):
            return
        worker = self._present()
        with worker.preparing:
            worker.ask(worker.others, instruction, LOADING_S)
        if self._known is not None:
            self._known.add(instruction)

    def predict(self, observation: Observation, is_known: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Decide on an observation; see `Predictor.predict`.

        Raises:
            InferenceError: The process did not answer in time, failed or died. It is being replaced.
            UserError: As the policy's own.
        """
        worker = self._present()
        try:
            layout = worker.memory.write(observation.values)
        except ValueError as reason:
            raise InferenceError(f"The observation cannot be handed over: {reason}") from reason
        begins, self._begins = self._begins, False
        asked = (begins, layout, observation.stamp_ns, observation.instruction, observation.is_pad, is_known)
        try:
            answer: NDArray[np.float64] = worker.ask(worker.predictions, asked, self._max_inference_s)
        except InferenceError as reason:
            self._replace(worker)
            raise InferenceError(f"{reason}; it is being replaced.") from reason
        return answer

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.end()

    @property
    def process_id(self) -> int | None:
        """Of the process that predicts; None while there is none."""
        worker = self._worker
        return None if worker is None else worker.process.pid

    def _present(self) -> "_Worker":
        worker = self._worker
        if worker is None:
            raise InferenceError("The inference process is being replaced.")
        return worker

    def _replace(self, worker: "_Worker") -> None:
        """End a process and start another one beside whatever waits."""
        with self._lock:
            if self._worker is not worker:
                return
            self._worker, self._begins = None, True
        worker.end()
        threading.Thread(target=self._restart, name="replace inference process", daemon=True).start()

    def _restart(self) -> None:
        """Start processes until one is ready."""
        while not self._closed and not self._adopt_new():
            time.sleep(_RETRY_S)

    def _adopt_new(self) -> bool:
        try:
            worker = self._start()
        except UserError as reason:
            _LOG.error("the inference process cannot be replaced: %s", reason)
            return False
        with self._lock:
            wanted = not self._closed
            if wanted:
                self._worker = worker
        if not wanted:
            worker.end()
        return True

    def _start(self) -> "_Worker":
        path = str(Path(self._contract.source).resolve())
        return _Worker(self._command, {**self._values, "contract": path}, self._memory_bytes())

    def _memory_bytes(self) -> int:
        features = self._contract.policy_features.values()
        blanks = {spec.key: np.empty(spec.shape, spec.dtype) for spec in features}
        return bytes_needed(blanks, _MAX_STEPS)


class _Worker:
    """One inference process, from its start to its end.

    Raises:
        UserError: It could not load the policy.
    """

    def __init__(self, command: Sequence[str], values: Mapping[str, Any], memory_bytes: int) -> None:
        self.memory = ObservationMemory(size=memory_bytes)
        self.predictions, theirs = _connection()
        self.others, others = _connection()
        self.preparing = threading.Lock()
        inherited = (theirs.fileno(), others.fileno(), self.memory.fd)
        arguments = {
            "predict_fd": inherited[0],
            "prepare_fd": inherited[1],
            "memory_fd": inherited[2],
            "parent": os.getpid(),
            "values": values,
        }
        self.process = subprocess.Popen([*command, json.dumps(arguments, default=str)], pass_fds=inherited)
        for end in (theirs, others):
            end.close()
        try:
            self.ready: dict[str, Any] = self._receive(self.others, LOADING_S, "load the policy")
        except UserError:
            self.end()
            raise

    def ask(self, connection: Connection, question: Any, limit_s: float) -> Any:
        """Send a question and wait for its answer.

        Raises:
            InferenceError: The process does not answer in time, is gone, or has a bug.
            UserError: What the process was told to raise.
        """
        try:
            connection.send(question)
        except OSError as reason:
            raise InferenceError(f"The inference process is gone ({self._end_code()})") from reason
        return self._receive(connection, limit_s, "answer")

    def end(self) -> None:
        """End the process, whatever it is doing."""
        self.process.kill()
        self.process.wait()
        self.predictions.close()
        self.others.close()
        self.memory.close()

    def _receive(self, connection: Connection, limit_s: float, what: str) -> Any:
        deadline = time.monotonic() + limit_s
        try:
            while not connection.poll(_STEP_S):
                if self.process.poll() is not None:
                    raise InferenceError(f"The inference process is gone ({self._end_code()})")
                if time.monotonic() > deadline:
                    raise InferenceError(f"The inference process did not {what} within {limit_s:g} s")
            kind, *content = connection.recv()
        except (EOFError, OSError) as reason:
            raise InferenceError(f"The inference process is gone ({self._end_code()})") from reason
        if kind == "error":
            raise getattr(errors, content[0], InferenceError)(content[1])
        if kind == "bug":
            _LOG.error("inference process: %s", content[1])
            raise InferenceError(f"The inference process failed: {' '.join(content[0].split())[:300]}")
        return content[0]

    def _end_code(self) -> str:
        try:
            code = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def _connection() -> tuple[Connection, Connection]:
    ours, theirs = socket.socketpair()
    return Connection(ours.detach()), Connection(theirs.detach())
