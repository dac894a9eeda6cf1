"""The project's policy node with the benchmark's policy in the place of a checkpoint.

``python -m bench.children.policy_node WORK --ros-args …``; the parameter ``checkpoint`` names a contract.
"""

import sys
from functools import partial

from bench.policy import Work, make_checkpoint, work_named
from vla_ros.checkpoint import Checkpoint
from vla_ros.nodes.policy.policy_node import main as run_policy_node


def _load(work: Work, path: str, device: str) -> Checkpoint:
    return make_checkpoint(path, work, device)


def main() -> int:
    """Run the node until a signal."""
    work = work_named(sys.argv.pop(1))
    return run_policy_node(sys.argv, partial(_load, work))


if __name__ == "__main__":
    sys.exit(main())
