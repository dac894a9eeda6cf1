"""Case 5: is a control tick ever lost on a whole robot?"""

from bench.arms import Bench, policy_node
from bench.cases.case import Case, Measured
from bench.cases.command_latency import latencies_ms
from bench.contracts import CAMERAS, IMU, JOINTS, LIDAR, write_contract
from bench.plans import RobotPlan, RobotReport
from bench.results import Figure, Ratio, Target
from bench.statistics import percentile
from vla_ros.data_types import first_tick_at_or_after, tick_ns

RATE_HZ = 100
RATES_HZ = {CAMERAS[0]: 30.0, CAMERAS[1]: 30.0, LIDAR: 10.0, IMU: 400.0, JOINTS: 500.0}
_GRACE_NS = 20_000_000  # a command takes a moment to the robot: ticks this close to the window's end are not due


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Count the ticks for which no command came, with every sensor running and two images per forward pass."""
    seconds = seconds if bench.minutes is None else 60.0 * bench.minutes
    contract = write_contract(bench.folder / "ticks_lost.yaml", tuple(RATES_HZ), control_rate_hz=RATE_HZ)
    plan = RobotPlan(str(contract), RATES_HZ, seconds, "", settle_s=3.0)
    reports = [bench.measure("ticks_lost", plan, [policy_node(contract, "once")])[0] for _ in range(repeats)]
    lost = [lost_ticks(report, RATE_HZ) for report in reports]
    sent = [sum(report.sent.values()) / (sum(RATES_HZ.values()) * seconds) for report in reports]
    return Measured(
        (
            Ratio(
                "ticks lost ÷ due",
                f"ticks of {RATE_HZ} Hz without a command ÷ ticks in {seconds:g} s, with two 640×480 cameras at 30 Hz, "
                "LiDAR (20,000 points) at 10 Hz, IMU at 400 Hz, joints at 500 Hz and ResNet-18 on both images",
                [missed / due for missed, due in lost],
                Target("<=", 0.0),
            ),
        ),
        (
            Figure("ticks lost", "ticks", [missed for missed, _ in lost]),
            Figure("ticks due", "ticks", [due for _, due in lost]),
            Figure("commands of zero motion, no fresh prediction", "commands", [zero_commands(r) for r in reports]),
            Figure(
                "ticks late by more than half a period since the start", "ticks", _status(reports, "deadline_misses")
            ),
            Figure("lateness p99", "ms", [float(r.node["lateness_p99_ms"]) if r.node else None for r in reports]),
            Figure("one prediction p50", "ms", [1e3 * value for value in _status(reports, "inference_p50")]),
            Figure("observation → first command p50", "ms", [percentile(latencies_ms(r), 50) for r in reports]),
            Figure("sensor messages sent ÷ planned", "", sent),
        ),
    )


def lost_ticks(report: RobotReport, rate_hz: int) -> tuple[int, int]:
    """Return how many ticks of the window had no command, and how many there were."""
    begin_ns, end_ns = report.window_ns
    first = first_tick_at_or_after(begin_ns, rate_hz)
    last = first_tick_at_or_after(end_ns - _GRACE_NS, rate_hz)
    commanded = {effect_ns for _, effect_ns, _ in report.commands}
    missed = sum(tick_ns(index, rate_hz) not in commanded for index in range(first, last))
    return missed, max(last - first, 1)


def zero_commands(report: RobotReport) -> int:
    """Return how many commands of the window were decided on no observation: safe actions, but no lost ticks."""
    return sum(not observation_ns for _, _, observation_ns in report.commands)


def _status(reports: list[RobotReport], name: str) -> list[float]:
    return [float(report.status[name]) for report in reports if report.status]


CASE = Case("ticks_lost", "ticks lost on a whole robot", 30.0, 1, run)
