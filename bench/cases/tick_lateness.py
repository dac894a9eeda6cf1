"""Case 1: does inference that takes all its cores make the control thread late?"""

from bench.arms import Bench, policy_node
from bench.cases.case import Case, Measured
from bench.contracts import CAMERAS, JOINTS, write_contract
from bench.plans import RobotPlan, RobotReport
from bench.policy import Work
from bench.results import Figure, Ratio, Target
from bench.statistics import interleaved, ratios

RATE_HZ = 100


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Measure the node's control ticks with a policy that never rests, and with one that does nothing."""
    topics = (CAMERAS[0], JOINTS)
    contract = write_contract(bench.folder / "tick_lateness.yaml", topics, control_rate_hz=RATE_HZ)
    plan = RobotPlan(str(contract), {CAMERAS[0]: 30.0, JOINTS: 100.0}, seconds, "")

    def arm(work: Work) -> RobotReport:
        return bench.measure(f"tick_lateness_{work}", plan, [policy_node(contract, work)])[0]

    reports = interleaved({"saturated": lambda: arm("saturate"), "idle": lambda: arm("none")}, repeats)
    saturated_50, saturated_99 = (_lateness(reports["saturated"], p) for p in (50, 99))
    idle_50, idle_99 = (_lateness(reports["idle"], p) for p in (50, 99))
    return Measured(
        (
            Ratio(
                "lateness p99, saturated ÷ idle",
                "99th percentile of the control thread's lateness at its deadline over the last 512 ticks, while the "
                "policy computes without a pause on all torch threads ÷ the same node with a policy that costs nothing",
                ratios(saturated_99, idle_99),
                Target("<=", 2.0),
            ),
            Ratio("lateness p50, saturated ÷ idle", "the same, median", ratios(saturated_50, idle_50)),
        ),
        (
            Figure("idle p50", "ms", idle_50),
            Figure("idle p99", "ms", idle_99),
            Figure("saturated p50", "ms", saturated_50),
            Figure("saturated p99", "ms", saturated_99),
            Figure("saturated, one prediction p50", "ms", [_inference_ms(r) for r in reports["saturated"]]),
        ),
    )


def _lateness(reports: list[RobotReport], percent: int) -> list[float | None]:
    return [float(report.node[f"lateness_p{percent}_ms"]) if report.node else None for report in reports]


def _inference_ms(report: RobotReport) -> float | None:
    return 1e3 * float(report.status["inference_p50"]) if report.status else None


CASE = Case("tick_lateness", "control-tick lateness under saturating inference", 6.0, 3, run)
