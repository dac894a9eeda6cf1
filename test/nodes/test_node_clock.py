"""The node's clock notices when the system clock is set, which no callback of rclpy's tells."""

import time

import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.clock import ROSClock  # noqa: E402

from vla_ros.nodes.policy.node_clock import NodeClock  # noqa: E402

pytestmark = pytest.mark.ros
S = 1_000_000_000


@pytest.mark.parametrize(("step_s", "direction"), [(-10.0, "back"), (-0.2, "back"), (3600.0, "forward")])
def test_a_system_clock_that_is_set_ends_the_wait_and_is_told(
    monkeypatch: pytest.MonkeyPatch, step_s: float, direction: str
) -> None:
    moved = [0]
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + moved[0])
    clock, told = NodeClock(ROSClock()), []
    clock.listen(told.append)
    assert clock.wait_until(time.time_ns(), lambda: False) is not None
    assert (clock.step, told) == ("", [])

    def stopped() -> bool:  # while it waits
        moved[0] = round(step_s * S)
        return False

    assert clock.wait_until(time.time_ns() + 3600 * S, stopped) is None
    assert told == [True]
    assert clock.step == f"The system clock was set {direction} by {abs(step_s):.3f} s."
    assert clock.wait_until(time.time_ns(), lambda: False) is not None
    clock.close()


def test_a_clock_that_is_slewed_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = [0]
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + moved[0])
    clock, told = NodeClock(ROSClock()), []
    clock.listen(told.append)
    for _ in range(100):
        moved[0] += S // 1000
        clock.wait_until(time.time_ns(), lambda: False)
    assert told == []
