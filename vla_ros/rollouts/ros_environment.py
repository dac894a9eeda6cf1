"""The ROS environment of one run: a domain of its own, this machine only, transport that carries images. No rclpy.

Two runs side by side must not mix: each takes a domain id that no process of this machine uses, and holds it
until it ends.
"""

import fcntl
import os
import random
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from vla_ros.data_types import UserError
from vla_ros.data_types.resources import resource_path

DOMAIN_IDS = range(30, 102)
"""Domains to choose from: above those that people pick by hand, below 102, where the ports of a domain enter
Linux's ephemeral range."""

_PORT_BASE, _PORTS_PER_DOMAIN = 7400, 250  # RTPS 2.5, section 9.6.2.3


_SHARED_MEMORY_NEEDED = 6 * 32 * 2**20
"""Room for the profile's 32 MB segment in six processes. A container has 64 MB by default, and a process that
writes past what is there is killed by SIGBUS; Fast DDS's own small segments carry the simulated cameras as well."""


class RosDomain:
    """A ROS domain held for the life of this object, among all runs of this machine.

    Attributes:
        number: The domain id.
    """

    def __init__(self, number: int | None = None) -> None:
        """Take `number`, or any free domain.

        Raises:
            UserError: None is free.
        """
        self._lock: IO[str] | None = None
        if number is not None:
            self.number = number
            return
        busy = domains_in_use()
        candidates = [candidate for candidate in DOMAIN_IDS if candidate not in busy]
        random.shuffle(candidates)  # two runs that start at the same instant rarely try the same one first
        for candidate in candidates:
            self._lock = _lock(candidate)
            if self._lock is not None:
                self.number = candidate
                return
        raise UserError(
            f"No free ROS domain between {DOMAIN_IDS[0]} and {DOMAIN_IDS[-1]} on this machine; "
            "end other ROS processes or choose one with --domain-id."
        )

    def release(self) -> None:
        """Let other runs have it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def domains_in_use(tables: Iterable[Path] = (Path("/proc/net/udp"), Path("/proc/net/udp6"))) -> set[int]:
    """Return the domains whose ports some process of this machine has bound.

    Args:
        tables: The kernel's socket tables; a missing one counts as empty.
    """
    domains = set()
    for table in tables:
        lines = table.read_text(encoding="ascii").splitlines()[1:] if table.is_file() else []
        for line in lines:
            port = int(line.split()[1].rpartition(":")[2], 16)
            domains.add((port - _PORT_BASE) // _PORTS_PER_DOMAIN)
    return domains


def shared_memory_bytes(folder: Path = Path("/dev/shm")) -> int:  # noqa: S108 (where Linux keeps shared memory)
    """Return how much shared memory is free on this machine, 0 where it has none."""
    if not folder.is_dir():
        return 0
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize


def run_environment(domain: RosDomain, base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return `base` with what the processes of a run need to find each other and nobody else."""
    environment = {
        **base,
        "ROS_DOMAIN_ID": str(domain.number),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",  # a log that is read while its process runs, or after it was killed
    }
    if shared_memory_bytes() >= _SHARED_MEMORY_NEEDED:
        # Kilted's Fast DDS 3 warns when it reads the old name; Fast DDS 2 knows only that one.
        old = base.get("ROS_DISTRO") in {"humble", "iron", "jazzy"}
        name = "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"
        environment.setdefault(name, str(resource_path("config/fastdds.xml")))
    environment.setdefault("HOME", tempfile.gettempdir())  # rcl's logging refuses to start without one
    return environment


def _lock(number: int) -> IO[str] | None:
    folder = Path(tempfile.gettempdir())
    try:
        handle = (folder / f"vla_ros-domain-{number}-{os.getuid()}.lock").open("w", encoding="ascii")
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        return None
    return handle
