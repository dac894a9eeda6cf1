"""Case 6: what the project's Fast DDS profile does for camera images on one machine."""

from bench.arms import Bench
from bench.cases.case import Case, Measured
from bench.contracts import CAMERAS, write_contract
from bench.plans import RobotPlan, RobotReport, SubscriberReport
from bench.results import Figure, Ratio, Target
from bench.statistics import interleaved, percentile, ratio, ratios
from vla_ros.data_types import UserError

RATE_HZ = 30


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Send best-effort images with the profile and without."""
    if not bench.has_profile:
        raise UserError(
            "This machine has too little shared memory (/dev/shm) for the Fast DDS profile; give it 192 MB."
        )
    contract = write_contract(bench.folder / "transport.yaml", CAMERAS[:1], fps=RATE_HZ, control_rate_hz=RATE_HZ)
    plan = RobotPlan(str(contract), {CAMERAS[0]: float(RATE_HZ)}, seconds, "", wait_for="subscribers")

    def arm(*, profile: bool) -> tuple[RobotReport, SubscriberReport]:
        process = bench.subscriber(contract, "record")
        robot, others = bench.measure(f"transport_{'on' if profile else 'off'}", plan, [process], profile=profile)
        return robot, others["subscriber"]

    outcomes = interleaved({"on": lambda: arm(profile=True), "off": lambda: arm(profile=False)}, repeats)
    delivered = {name: [delivered_share(*pair) for pair in several] for name, several in outcomes.items()}
    p50 = {name: [percentile(window_latencies_ms(*pair), 50) for pair in several] for name, several in outcomes.items()}
    p99 = {name: [percentile(window_latencies_ms(*pair), 99) for pair in several] for name, several in outcomes.items()}
    return Measured(
        (
            Ratio(
                "images delivered ÷ sent, with the profile",
                "best-effort 640×480 rgb8 at 30 Hz between two processes, received ÷ sent",
                delivered["on"],
                Target(">=", 1.0),
            ),
            Ratio("images delivered ÷ sent, without", "the same with Fast DDS's defaults", delivered["off"]),
            Ratio(
                "latency p50, with ÷ without",
                "stamp → callback of the images that arrived, with the profile ÷ without it",
                ratios(p50["on"], p50["off"]),
            ),
        ),
        (
            Figure("with the profile p50", "ms", p50["on"]),
            Figure("with the profile p99", "ms", p99["on"]),
            Figure("without p50", "ms", p50["off"]),
            Figure("without p99", "ms", p99["off"]),
        ),
    )


def window_latencies_ms(robot: RobotReport, other: SubscriberReport) -> list[float]:
    """Return the latency of every message stamped within the robot's window, ms."""
    begin_ns, end_ns = robot.window_ns
    return [latency_ns * 1e-6 for stamp_ns, latency_ns in other.arrivals if begin_ns <= stamp_ns <= end_ns]


def delivered_share(robot: RobotReport, other: SubscriberReport) -> float | None:
    """Return how many of the messages sent within the window arrived, of one topic."""
    return ratio(len(window_latencies_ms(robot, other)), sum(robot.sent.values()))


CASE = Case("transport", "Fast DDS profile on and off", 3.0, 3, run)
