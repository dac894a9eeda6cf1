"""Runs one measurement: a robot and what it talks to as processes of one ROS domain, and collects what they wrote."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.plans import RobotPlan, RobotReport, SubscriberPlan, SubscriberReport, read_json, write_json
from bench.policy import Work
from vla_ros.rollouts.process_group import ProcessGroup, node_command
from vla_ros.rollouts.ros_environment import RosDomain, run_environment

START_S = 120.0
"""Wall time that processes may take to start beyond the measurement: importing torch on a busy machine is slow."""

_ROOT = Path(__file__).resolve().parents[1]
_PROFILES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")


@dataclass(frozen=True)
class ArmProcess:
    """A process beside the robot.

    Attributes:
        name: For messages and logs.
        command: How it is started.
        output: What it writes when SIGINT ends it, or None.
    """

    name: str
    command: list[str]
    output: Path | None = None


class Bench:
    """A ROS domain and a folder for one run of the benchmark. A context manager.

    Args:
        folder: For contracts, plans, reports and logs; made anew.
        minutes: Length of the ticks-lost case where the user wants another, else None.

    Attributes:
        folder: As given.
        minutes: As given.
    """

    def __init__(self, folder: Path, minutes: float | None = None) -> None:
        self.folder, self.minutes = folder, minutes
        self._count = 0
        self._domain: RosDomain | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> "Bench":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._domain is not None:
            self._domain.release()

    @property
    def has_profile(self) -> bool:
        """Whether runs on this machine take the Fast DDS profile: it needs shared memory."""
        return any(name in self._environment(profile=True) for name in _PROFILES)

    def measure(
        self, label: str, plan: RobotPlan, processes: Sequence[ArmProcess], *, profile: bool = True
    ) -> tuple[RobotReport, dict[str, SubscriberReport]]:
        """Run a robot and the processes beside it until the robot has reported, then end them all.

        Args:
            label: Of the arm; names its logs.
            plan: What the robot does; its `output` is set here.
            processes: What else runs.
            profile: Whether Fast DDS gets the project's profile.

        Returns:
            The robot's report, and those of the other processes that write one, by name.

        Raises:
            UserError: A process ended or was too slow, in its own words.
        """
        self._count += 1
        folder = self.folder / f"{self._count:03d}_{label}"
        folder.mkdir(parents=True, exist_ok=True)
        output = folder / "robot.json"
        output.unlink(missing_ok=True)
        write_json(folder / "robot_plan.json", replace(plan, output=str(output)))
        with ProcessGroup(folder, self._environment(profile=profile)) as group:
            started = [(process, group.start(process.name, process.command)) for process in processes]
            robot = group.start("robot", child_command("robot", str(folder / "robot_plan.json")))
            group.wait_until(output.exists, "report", robot, plan.seconds + plan.settle_s + START_S)
            for process, child in started:
                group.stop(child)
                if process.output is not None and not process.output.exists():
                    raise child.too_slow("report", 0.0)
        reports = {p.name: SubscriberReport(**read_json(p.output)) for p in processes if p.output is not None}
        return _robot_report(output), reports

    def subscriber(self, contract: Path, path: str) -> ArmProcess:
        """Return a subscriber to the first input of a contract; `path` as in `SubscriberPlan`."""
        output = self.folder / f"subscriber_{self._count + 1:03d}.json"
        output.unlink(missing_ok=True)
        plan = SubscriberPlan(str(contract), str(output), path)  # type: ignore[arg-type]  # checked by the child
        plan_file = output.with_name(output.stem + "_plan.json")
        write_json(plan_file, plan)
        return ArmProcess("subscriber", child_command("subscriber", str(plan_file)), output)

    def _environment(self, *, profile: bool) -> dict[str, str]:
        self._domain = self._domain or RosDomain()
        path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH", "")]))
        environment = {**run_environment(self._domain), "PYTHONPATH": path}
        if not profile:
            environment = {name: value for name, value in environment.items() if name not in _PROFILES}
        return environment


def child_command(module: str, *arguments: str) -> list[str]:
    """Return the command line of a module in `bench.children`."""
    return [sys.executable, "-m", f"bench.children.{module}", *arguments]


def policy_node(contract: Path, work: Work, *, lock_step: bool = False) -> ArmProcess:
    """Return the project's policy node, hosting `bench.policy.BenchPolicy`.

    Args:
        contract: The robot, which also stands for the checkpoint.
        work: What every prediction costs.
        lock_step: Publish a command when it is decided rather than at the next control tick.
    """
    parameters: dict[str, Any] = {
        "checkpoint": contract,
        "autostart": True,
        "enable_control": True,
        "lock_step": lock_step,
    }
    ros_arguments = node_command("policy_node", parameters)[3:]
    return ArmProcess("policy_node", child_command("policy_node", work, *ros_arguments))


def _robot_report(path: Path) -> RobotReport:
    content = read_json(path)
    begin_ns, end_ns = content.pop("window_ns")
    return RobotReport(window_ns=(begin_ns, end_ns), **content)
