"""Child processes of one run: started together, watched, and ended together whatever happens to the parent.

Knows processes and files only, no ROS. What a child does and when it is ready is the caller's business.
"""

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from vla_ros.data_types import UserError

NODE_FOLDERS = {
    "policy_node": "policy",
    "sim_robot_node": "sim",
    "expert_node": "sim",
    "bag_recorder_node": "recorder",
}
"""Executable → folder of its module under ``vla_ros.nodes``."""

POLL_S = 0.05
_ENDING: tuple[tuple[signal.Signals, float], ...] = (
    (signal.SIGINT, 6.0),  # what ROS nodes shut down cleanly on: recorders finish their file, renderers close
    (signal.SIGTERM, 2.0),
    (signal.SIGKILL, 2.0),
)
"""Signals by which a child is ended, and how long in s each may take before the next."""

_TOLD = "error: "
"""How a child tells the user what is wrong, on stderr."""

_LOG_PREFIX = re.compile(r"^\[\w+\] \[[\d.]+\] \[[^\]]*\]: ")
"""Severity, time and node name, with which rcl begins a line."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ChildFailedError(UserError):
    """A child process ended, or was not ready, when the run still needed it. Carries the child's own sentence."""


class ChildProcess:
    """One child in its own session, its output in a log file.

    Attributes:
        name: For messages and for the log's file name.
        log: File that takes its stdout and stderr.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        """Start it.

        Args:
            name: For messages.
            command: Program and arguments.
            log: Written anew.
            environment: The child's whole environment.
        """
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                # Own session: Ctrl-C reaches the parent only, which then ends its children in order.
                start_new_session=True,
                # One prctl in the forked child; it takes no lock that another thread of the parent could hold.
                preexec_fn=_die_with_parent(os.getpid()),  # noqa: PLW1509
            )

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal, or None while it runs."""
        return self._process.poll()

    def last_sentence(self) -> str:
        """Return the child's own ``error: …`` sentence, else its last logged error, else its last line."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        told = [line[len(_TOLD) :] for line in lines if line.startswith(_TOLD)]
        logged = [line for line in lines if line.startswith(("[ERROR]", "[FATAL]"))]
        return _LOG_PREFIX.sub("", (told or logged or lines or [""])[-1])

    def check(self) -> None:
        """Raise if the child has ended.

        Raises:
            ChildFailedError: With the child's own sentence where it left one.
        """
        code = self.exit_code
        if code is None:
            return
        sentence = self.last_sentence()
        if code == UserError.exit_code and sentence:
            raise ChildFailedError(sentence)
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        said = f'; it last said "{sentence}"' if sentence else ""
        raise ChildFailedError(f"{self.name} {how}{said} (log: {self.log}).")

    def too_slow(self, waiting_for: str, timeout_s: float) -> ChildFailedError:
        """Return the error that says that it did not `waiting_for` in time, with its last words."""
        said = self.last_sentence()
        quoted = f'; it last said "{said}"' if said else "; it said nothing"
        return ChildFailedError(f"{self.name} did not {waiting_for} within {timeout_s:g} s{quoted} (log: {self.log}).")

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the child and whatever it started; nothing happens when they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, timeout_s: float) -> bool:
        """Return whether the child ended within `timeout_s`."""
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True


class ProcessGroup:
    """The children of a run. A context manager: leaving it ends every child, in reverse order of starting.

    Children also die with the parent, however it dies: the kernel kills them when the thread that started them
    ends. Start them from the main thread for that reason.
    """

    def __init__(self, log_folder: Path, environment: Mapping[str, str]) -> None:
        """Start nothing yet.

        Args:
            log_folder: Each child writes ``<name>.log`` here.
            environment: Of every child.
        """
        self.log_folder = log_folder
        self._environment = dict(environment)
        self._children: list[ChildProcess] = []

    def __enter__(self) -> "ProcessGroup":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self, name: str, command: Sequence[str]) -> ChildProcess:
        """Start one child."""
        child = ChildProcess(name, command, self.log_folder / f"{name}.log", self._environment)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raise if any child has ended.

        Raises:
            ChildFailedError: Of the first child that did, with its own sentence.
        """
        for child in self._children:
            child.check()

    def wait_until(
        self, condition: Callable[[], bool], waiting_for: str, child: ChildProcess, timeout_s: float
    ) -> None:
        """Return once `condition` holds; watch all children meanwhile.

        Args:
            condition: Cheap; polled.
            waiting_for: What it means, in words that complete "<child> did not …".
            child: The child whose readiness it is, quoted when time runs out.
            timeout_s: Wall time.

        Raises:
            ChildFailedError: A child ended, or the time ran out; quotes the child's last line.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise child.too_slow(waiting_for, timeout_s)
            time.sleep(POLL_S)

    def stop(self, child: ChildProcess | None = None) -> None:
        """End one child, or all of them, by SIGINT, then SIGTERM, then SIGKILL."""
        ending = [child] if child is not None else list(reversed(self._children))
        for each in ending:
            for number, patience_s in _ENDING:
                each.send(number)
                if each.wait(patience_s):
                    break
            each.send(signal.SIGKILL)  # what the child itself started and left behind
            self._children.remove(each)


def node_command(node: str, parameters: Mapping[str, object], remappings: Mapping[str, str] | None = None) -> list[str]:
    """Return the command line that starts one of the package's nodes with this interpreter.

    Args:
        node: Name of an executable of the package, e.g. ``policy_node``.
        parameters: ROS parameter → bool, int, float, str or list of these.
        remappings: Topic or ``__node`` → new name.
    """
    command = [sys.executable, "-m", f"vla_ros.nodes.{NODE_FOLDERS[node]}.{node}", "--ros-args"]
    for name, value in parameters.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    for name, value in (remappings or {}).items():
        command += ["-r", f"{name}:={value}"]
    return command


def _yaml(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        text = repr(value)
        # rcl reads parameters as YAML 1.1, to which 1e-05 without a dot is a string.
        return text if "e" not in text or "." in text else text.replace("e", ".0e")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, (str, os.PathLike)):
        escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'  # quoted: a path or a word such as `on` must stay a string
    return str(value)


def _die_with_parent(parent: int) -> Callable[[], None] | None:
    """Return what the forked child calls before exec, so that the kernel kills it when its parent's thread ends."""
    libc = _LIBC
    if libc is None:
        return None

    def prepare() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
        if os.getppid() != parent:  # it died before the line above
            os._exit(1)

    return prepare
