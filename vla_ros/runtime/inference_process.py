"""The process that predicts for a `ProcessPredictor`: loads a checkpoint, then answers until its parent is gone.

``python -m vla_ros.runtime.inference_process``, started by the predictor, with the descriptors of two connections and
of the shared memory. The first connection asks for predictions, the second for what must not wait behind one.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.data_types import Observation, UserError
from vla_ros.runtime.observation_memory import ObservationMemory

_ORPHANED_CHECK_S = 0.5


@dataclass(frozen=True)
class Arguments:
    """What the predictor hands to its process, as JSON on the command line.

    Attributes:
        predict_fd: Connection for predictions.
        prepare_fd: Connection for everything else.
        memory_fd: Shared memory of an observation.
        parent: Process id of the node; without it there is nobody to answer.
        values: As `vla_ros.runtime.loading.load_policy`, with ``contract`` and ``torch_threads``.
    """

    predict_fd: int
    prepare_fd: int
    memory_fd: int
    parent: int
    values: dict[str, Any]


def main(text: str, load: Any = None) -> int:
    """Serve; return the exit code.

    Args:
        text: `Arguments` as JSON.
        load: Reads a checkpoint folder onto a device; None takes the package's own.
    """
    arguments = Arguments(**json.loads(text))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the node, which ends this process
    threading.Thread(target=_end_with_parent, args=(arguments.parent,), daemon=True).start()
    predictions, others = Connection(arguments.predict_fd), Connection(arguments.prepare_fd)
    try:
        predictor, ready = _load(arguments.values, load)
    except UserError as reason:
        others.send(("error", type(reason).__name__, str(reason)))
        return 1
    memory = ObservationMemory(arguments.memory_fd)
    others.send(("ready", ready))
    threading.Thread(target=_serve, args=(others, predictor.prepare), daemon=True).start()

    def predict(asked: tuple[Any, ...]) -> Any:
        begins, layout, stamp_ns, instruction, is_pad, is_known = asked
        if begins:
            predictor.begin_episode()
        observation = Observation(stamp_ns, memory.read(layout), instruction, np.asarray(is_pad))
        return predictor.predict(observation, np.asarray(is_known))

    _serve(predictions, predict)
    return 0


def _load(values: dict[str, Any], load: Any) -> tuple[Any, dict[str, Any]]:
    from vla_ros.checkpoint import load_checkpoint
    from vla_ros.contract import load_contract
    from vla_ros.runtime.loading import load_policy, set_torch_threads
    from vla_ros.runtime.torch_predictor import TorchPredictor

    threads = set_torch_threads(int(values["torch_threads"]), len(os.sched_getaffinity(0)))
    contract = load_contract(Path(str(values["contract"])))
    loaded = load_policy({**values, "inference": "thread"}, load or load_checkpoint, contract)
    predictor = loaded.predictor
    known = predictor.instructions if isinstance(predictor, TorchPredictor) else None
    return predictor, {"spec": predictor.spec, "instructions": known, "threads": threads}


def _serve(connection: Connection, answer: Any) -> None:
    """Answer one question after the other, until the other end is closed."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            asked = connection.recv()
            try:
                reply: tuple[Any, ...] = ("ok", answer(asked))
            except UserError as reason:
                reply = ("error", type(reason).__name__, str(reason))
            except Exception as reason:  # noqa: BLE001 (told to the node, which logs it)
                import traceback

                reply = ("bug", f"{type(reason).__name__}: {reason}", traceback.format_exc())
            connection.send(reply)


def _end_with_parent(parent: int) -> None:
    """End when the node is gone, whatever this process is doing."""
    while os.getppid() == parent:
        time.sleep(_ORPHANED_CHECK_S)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
