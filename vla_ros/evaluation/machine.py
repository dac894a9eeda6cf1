"""What a measurement was taken on: hardware and software versions. Standard library only; nothing is guessed."""

import importlib.metadata
import os
import platform
from pathlib import Path

import vla_ros

_PACKAGES = {
    "torch": "torch",
    "numpy": "numpy",
    "mujoco": "mujoco",
    "metaworld": "metaworld",
    "rclpy": "ros-kilted-rclpy",
    "rmw_fastrtps_cpp": "ros-kilted-rmw-fastrtps-cpp",
}
"""Name in the report → distribution; where ROS 2 is installed by other means its wheels are not found and left out."""


def hardware() -> dict[str, object]:
    """Return the processor, the cores this process may use, memory and operating system."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "os": _os_name(),
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Return the versions of vla_ros, Python, the ROS distribution and the packages that matter to a measurement."""
    found = {"vla_ros": vla_ros.__version__, "python": platform.python_version()}
    for name, distribution in _PACKAGES.items():
        if (version := _version(distribution)) is not None:
            found[name] = version
    found["ros_distro"] = os.environ.get("ROS_DISTRO") or ("kilted" if "rclpy" in found else "unknown")
    found["rmw"] = os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp")
    return found


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8", errors="replace").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", platform.system())
    except OSError:
        return platform.system()
