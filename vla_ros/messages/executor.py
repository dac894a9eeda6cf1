"""The executor of nodes with fast or large topics, and how to spin it. No node of its own."""

from collections.abc import Callable
from typing import Any

from rclpy.context import Context
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.task import Future


def make_executor(context: Context | None = None) -> Executor:
    """Return an EventsExecutor where rclpy has one (Kilted on), else a SingleThreadedExecutor.

    Never a MultiThreadedExecutor: it lost 95 % of a 500 Hz topic where these two lost nothing.
    """
    try:
        from rclpy.experimental import EventsExecutor
    except ImportError:
        return SingleThreadedExecutor(context=context)
    return EventsExecutor(context=context)


def spin_until(executor: Executor, stopped: Callable[[], bool], poll_s: float = 0.1) -> None:
    """Serve callbacks until `stopped()`, which is asked every `poll_s`.

    Use this instead of ``executor.spin()``: in rclpy 9.1 (Kilted), an EventsExecutor that spins without a timeout
    overflows its deadline, then busy-waits holding the queue's lock, and no callback ever runs.
    """
    while not stopped() and executor.context.ok():
        never: Any = Future()  # a fresh one each time: the executor leaves a callback on it
        executor.spin_until_future_complete(never, timeout_sec=poll_s)
