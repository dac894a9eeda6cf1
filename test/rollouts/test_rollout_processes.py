import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vla_ros.data_types import UserError
from vla_ros.rollouts.process_group import ChildFailedError, ProcessGroup, node_command
from vla_ros.rollouts.ros_environment import DOMAIN_IDS, RosDomain, domains_in_use, run_environment

READY = "print('ready', flush=True); "
SLEEP = READY + "import time; time.sleep(60)"
STUBBORN = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); " + SLEEP


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def wait_for(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "condition did not come true"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def group(tmp_path: Path) -> ProcessGroup:
    return ProcessGroup(tmp_path / "logs", os.environ)


def test_leaving_the_group_ends_every_child(group: ProcessGroup) -> None:
    with group:
        children = [group.start(name, python(SLEEP)) for name in ("robot", "policy")]
        for child in children:
            group.wait_until(lambda c=child: "ready" in c.log.read_text(), "say ready", child, 20.0)
    assert not any(is_alive(child.pid) for child in children)


def test_an_error_in_the_run_ends_every_child(group: ProcessGroup) -> None:
    def fail() -> None:
        with group:
            pids.append(group.start("robot", python(SLEEP)).pid)
            raise RuntimeError

    pids: list[int] = []
    with pytest.raises(RuntimeError):
        fail()
    assert not is_alive(pids[0])


def test_a_child_that_ignores_sigint_is_ended_by_a_harder_signal(
    group: ProcessGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    ending = ((signal.SIGINT, 0.05), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0))
    monkeypatch.setattr("vla_ros.rollouts.process_group._ENDING", ending)
    with group:
        child = group.start("robot", python(STUBBORN))
        group.wait_until(lambda: "ready" in child.log.read_text(), "say ready", child, 20.0)
    assert child.exit_code == -signal.SIGTERM


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
from pathlib import Path
from vla_ros.rollouts.process_group import ProcessGroup
child = ProcessGroup(Path({str(tmp_path)!r}), os.environ).start("robot", [sys.executable, "-S", "-c", {SLEEP!r}])
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child_pid = int(parent.stdout.readline())
    assert is_alive(child_pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not is_alive(child_pid))


def test_a_childs_user_error_becomes_the_commands_own(group: ProcessGroup) -> None:
    code = "import sys; print('loading'); print('error: No libEGL; install libegl1.', file=sys.stderr); sys.exit(2)"
    with group:
        child = group.start("sim_robot_node", python(code))
        with pytest.raises(UserError) as caught:
            group.wait_until(lambda: False, "start", child, 20.0)
    assert str(caught.value) == "No libEGL; install libegl1."


def test_a_logged_error_is_quoted_without_the_loggers_prefix(group: ProcessGroup) -> None:
    lines = "[ERROR] [1795.25] [policy_node]: no such folder\n[INFO] [1795.26] [policy_node]: bye"
    code = f"print({lines!r}); raise SystemExit(2)"
    with group:
        child = group.start("policy_node", python(code))
        with pytest.raises(UserError, match=r"^no such folder$"):
            group.wait_until(lambda: False, "start", child, 20.0)


def test_a_crash_names_the_child_its_code_its_last_line_and_its_log(group: ProcessGroup) -> None:
    with group:
        child = group.start("policy_node", python("import sys; print('about to fail'); sys.exit(7)"))
        with pytest.raises(ChildFailedError) as caught:
            group.wait_until(lambda: False, "start", child, 20.0)
    message = str(caught.value)
    assert "policy_node ended with exit code 7" in message
    assert "about to fail" in message
    assert str(child.log) in message


def test_a_killed_child_is_named_with_the_signal(group: ProcessGroup) -> None:
    with group:
        child = group.start("policy_node", python(SLEEP))
        child.send(signal.SIGKILL)
        child.wait(20.0)
        with pytest.raises(ChildFailedError, match="policy_node was ended by SIGKILL"):
            group.check()


def test_a_child_that_never_gets_ready_is_quoted(group: ProcessGroup) -> None:
    with group:
        child = group.start("robot", python(SLEEP))
        group.wait_until(lambda: "ready" in child.log.read_text(), "say ready", child, 20.0)
        with pytest.raises(ChildFailedError, match=r'robot did not serve resets within 0\.1 s; it last said "ready"'):
            group.wait_until(lambda: False, "serve resets", child, 0.1)


def test_stopping_one_child_leaves_the_others(group: ProcessGroup) -> None:
    with group:
        first, second = (group.start(name, python(SLEEP)) for name in ("first", "second"))
        group.stop(first)
        group.check()
        assert not is_alive(first.pid)
        assert is_alive(second.pid)


def test_parameters_keep_their_types_on_the_command_line() -> None:
    values = {"flag": True, "count": 3, "small": 1e-05, "path": Path("/data/a b"), "word": "on", "list": [1.5, 2.0]}
    command = node_command("policy_node", values, {"__node": "other"})
    assert command[1:4] == ["-m", "vla_ros.nodes.policy.policy_node", "--ros-args"]
    given = command[4:]
    assert given == [
        "-p", "flag:=true", "-p", "count:=3", "-p", "small:=1.0e-05", "-p", 'path:="/data/a b"', "-p", 'word:="on"',
        "-p", "list:=[1.5, 2.0]", "-r", "__node:=other",
    ]  # fmt: skip


def test_two_runs_get_different_domains() -> None:
    first, second = RosDomain(), RosDomain()
    try:
        assert first.number != second.number
        assert {first.number, second.number} <= set(DOMAIN_IDS)
    finally:
        first.release()
        second.release()


def test_a_domain_with_a_bound_port_is_in_use(tmp_path: Path) -> None:
    table = tmp_path / "udp"
    # Domain 42, first participant: discovery unicast 7400 + 250·42 + 10 = 17910.
    table.write_text(f"  sl  local_address rem_address\n   0: 00000000:{17910:04X} 00000000:0000 07\n")
    assert domains_in_use([table, tmp_path / "absent"]) == {42}


def test_without_a_free_domain_the_user_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.rollouts.ros_environment.domains_in_use", lambda: set(DOMAIN_IDS))
    with pytest.raises(UserError, match=r"No free ROS domain between 30 and 101.*--domain-id"):
        RosDomain()


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.rollouts.ros_environment.shared_memory_bytes", lambda: 2**30)


@pytest.mark.usefixtures("roomy")
def test_the_run_has_its_domain_this_machine_only_and_the_image_transport() -> None:
    environment = run_environment(RosDomain(77), {"ROS_DOMAIN_ID": "3", "KEPT": "yes"})
    assert environment["ROS_DOMAIN_ID"] == "77"
    assert environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert Path(environment["FASTDDS_DEFAULT_PROFILES_FILE"]).name == "fastdds.xml"
    assert environment["KEPT"] == "yes"


def test_without_room_for_its_segments_the_image_transport_stays_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vla_ros.rollouts.ros_environment.shared_memory_bytes", lambda: 64 * 2**20)
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in run_environment(RosDomain(77), {})


@pytest.mark.usefixtures("roomy")
def test_a_profile_that_the_user_chose_is_kept() -> None:
    chosen = {"FASTDDS_DEFAULT_PROFILES_FILE": "/mine.xml"}
    assert run_environment(RosDomain(77), chosen)["FASTDDS_DEFAULT_PROFILES_FILE"] == "/mine.xml"


@pytest.mark.usefixtures("roomy")
def test_an_older_fast_dds_gets_the_profile_under_the_name_it_reads() -> None:
    environment = run_environment(RosDomain(77), {"ROS_DISTRO": "jazzy"})
    assert "FASTRTPS_DEFAULT_PROFILES_FILE" in environment
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environment
