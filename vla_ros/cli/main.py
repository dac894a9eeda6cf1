"""Entry point of ``vla_ros``: finds the command, runs it, turns what went wrong into one line and an exit code.

Exit codes: 0 done, 1 done but the answer is no, 2 something outside the code is wrong (one line on stderr says what),
130 interrupted. A traceback means a bug.
"""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from vla_ros import __version__
from vla_ros.cli import (
    checkpoint,
    contract,
    convert,
    dataset,
    demo,
    demonstrate,
    imagine,
    importance,
    parts,
    policies,
    replay,
    rollout,
    schema,
    train,
)
from vla_ros.data_types import UserError
from vla_ros.data_types.ros_packages import ROS_PACKAGES

COMMANDS = (
    demo,
    demonstrate,
    convert,
    dataset,
    train,
    rollout,
    replay,
    importance,
    imagine,
    contract,
    schema,
    policies,
    parts,
    checkpoint,
)
"""In the order in which somebody meets them."""

_INTERRUPTED = 130


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(
        prog="vla_ros", description="Run learned policies on ROS 2 robots, and train them from the robot's own bags."
    )
    top.add_argument("--version", action="version", version=f"vla_ros {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: Without the program's name; those of the process by default.

    Returns:
        Exit code, as in the module's docstring.
    """
    parsed = parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, _interrupt)  # so that children and files are closed in order
    try:
        exit_code: int = parsed.run(parsed)
        sys.stdout.flush()
    except UserError as error:
        return _refuse(str(error), error.exit_code)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ROS_PACKAGES:
            raise
        return _refuse(_ros_is_missing(error.name or ""), UserError.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) is gone; keep the interpreter from complaining about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
    return exit_code


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _refuse(sentence: str, exit_code: int) -> int:
    print(f"error: {' '.join(sentence.split())}", file=sys.stderr)
    return exit_code


def _ros_is_missing(module: str) -> str:
    if module.startswith("vla_ros_msgs"):
        return (
            "The interfaces vla_ros_msgs are not built for this Python: run `make setup` in the checkout, or build the "
            "workspace with `colcon build --base-paths src/vla_ros src/vla_ros/vla_ros_msgs` and source "
            "install/setup.bash."
        )
    return (
        f"This command talks to ROS 2, and the Python package '{module}' is not installed here: run `make setup` "
        "in the checkout, or source a ROS 2 installation (`source /opt/ros/<distro>/setup.bash`) that has it."
    )


if __name__ == "__main__":
    sys.exit(main())
