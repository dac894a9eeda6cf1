"""Runs a node until a signal ends it, in an order that loses nothing: work stops first, then ROS is shut down.

rclpy's own handler invalidates the context at the signal, while threads still publish through it.
"""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from vla_ros.data_types import UserError

_POLL_S = 0.2  # a signal is noticed when the executor's wait returns


def run_node(make: Callable[[], Node], args: list[str] | None, run: Callable[[Node], int] | None = None) -> int:
    """Start ROS, make a node, run it, and end both.

    Args:
        make: Builds the node.
        args: Command line, None for the process's own.
        run: What to do with it, `spin_until_signal` when None.

    Returns:
        Exit code: 0 after SIGINT or SIGTERM, a `UserError`'s own, whose sentence goes to stderr.
    """
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    node: Node | None = None
    try:
        node = make()
        return spin_until_signal(node) if run is None else run(node)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 0  # before it ran
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()


def spin_until_signal(node: Node, still_needed: Callable[[], bool] = lambda: True) -> int:
    """Serve the node's callbacks until SIGINT, SIGTERM or until it is not needed any more; return 0."""
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    with _signals() as ended:
        while rclpy.ok() and not ended() and still_needed():
            executor.spin_once(timeout_sec=_POLL_S)
    executor.shutdown()
    return 0


@contextmanager
def _signals() -> Iterator[Callable[[], bool]]:
    """Within the block, SIGINT and SIGTERM only set the flag that the yielded function reads."""
    received: list[int] = []
    names = (signal.SIGINT, signal.SIGTERM)
    before = {name: signal.signal(name, lambda number, _: received.append(number)) for name in names}
    try:
        yield lambda: bool(received)
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
