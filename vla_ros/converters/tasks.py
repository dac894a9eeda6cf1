"""Which instruction an episode is stored under: never another task's, and never two in one episode."""

from collections.abc import Mapping, Sequence

from vla_ros.bags.clock import ClockSegment
from vla_ros.contract import RobotContract
from vla_ros.converters.scan import BagScan
from vla_ros.data_types import DatasetError

Tasks = list[tuple[int, str]]
"""(stamp in ns, instruction) from which each holds; the first holds from the beginning."""


def tasks_of(scan: BagScan, segment: ClockSegment, contract: RobotContract, given: Mapping[str, str]) -> Tasks:
    """Return the instructions of a segment: those said on the topic where there are several, else one for all.

    One is the recorder's note, else the one said on the topic, else the one given for the episode's task, else the
    contract's default. A note that is the default counts as none: recorders used to note it when nothing was said.

    Args:
        scan: The bag.
        segment: The stretch of it.
        contract: The robot.
        given: Task name, as in ``episode.json``, → instruction; "" → of every episode without one.

    Raises:
        DatasetError: There is none anywhere.
    """
    said = [(ordinal, ns, text) for ordinal, ns, text in scan.instructions if text]
    noted = _own_note(scan, contract)
    if len({text for _, _, text in said}) > 1:
        return _changes(said, scan, segment)
    task = noted or (said[0][2] if said else "") or given.get(task_name(scan), "") or given.get("", "")
    task = task or contract.instruction.default
    if not task:
        raise DatasetError(
            f"{scan.bag}: has no instruction in episode.json or on {contract.instruction.topic}; "
            "give one with --instruction or set instruction.default in the contract."
        )
    return [(0, task)]


def task_name(scan: BagScan) -> str:
    """Return the name of the task that an episode is of, empty where its recorder did not say."""
    return str(scan.episode.get("task") or "")


def is_default(scan: BagScan, tasks: Tasks, contract: RobotContract) -> bool:
    """Whether an episode is stored under the contract's default for want of an instruction of its own."""
    own = _own_note(scan, contract) or any(text for _, _, text in scan.instructions)
    return not own and tasks[0][1] == contract.instruction.default


def check_default(scan: BagScan, tasks: Tasks, contract: RobotContract, served: dict[str, str]) -> None:
    """Refuse an episode that would get another task's instruction, because neither has one of its own.

    Args:
        scan: The bag.
        tasks: Its instructions.
        contract: The robot.
        served: Instruction → name of the task that it stands for already; the episode's is added.

    Raises:
        DatasetError: Names both tasks and what to do.
    """
    name = task_name(scan)
    for _, text in tasks:
        other = served.get(text, name)
        if name and other and other != name and is_default(scan, tasks, contract):
            raise DatasetError(
                f"{scan.bag}: is of task '{name}' and has no instruction, and the contract's default '{text}' stands "
                f"for task '{other}' already; give it its own with --instruction '{name}=…'."
            )
        if name:
            served.setdefault(text, name)


def _own_note(scan: BagScan, contract: RobotContract) -> str:
    noted = str(scan.episode.get("instruction") or "")
    return "" if noted == contract.instruction.default else noted


def _changes(said: Sequence[tuple[int, int, str]], scan: BagScan, segment: ClockSegment) -> Tasks:
    """Return where within a segment the instruction becomes another one."""
    first, last = _ordinals(scan, segment)
    tasks: Tasks = []
    for ordinal, receive_ns, text in said:
        if ordinal > last:
            break
        at_ns = receive_ns - segment.offset_ns
        if ordinal < first or not tasks:
            tasks = [(0, text)]
        elif text != tasks[-1][1]:
            tasks.append((at_ns, text))
    return tasks or [(0, said[0][2])]


def _ordinals(scan: BagScan, segment: ClockSegment) -> tuple[int, int]:
    begins, ends = [], []
    for topic, (begin, end) in segment.ranges.items():
        if end > begin:
            begins.append(int(scan.times[topic].ordinals[begin]))
            ends.append(int(scan.times[topic].ordinals[end - 1]))
    return min(begins, default=0), max(ends, default=0)
