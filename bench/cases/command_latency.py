"""Case 2: what the policy node adds to the transport of an image and the forward pass on it."""

from bench.arms import ArmProcess, Bench, child_command, policy_node
from bench.cases.case import Case, Measured
from bench.contracts import CAMERAS, write_contract
from bench.plans import RobotPlan, RobotReport
from bench.results import Figure, Ratio, Target
from bench.statistics import interleaved, percentile, ratios

FPS, RATE_HZ = 10, 100  # slow enough that one forward pass is over before the next image comes


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Measure from an observation's stamp to the first command decided on it, as the robot sees it."""
    contract = write_contract(bench.folder / "latency.yaml", CAMERAS[:1], fps=FPS, control_rate_hz=RATE_HZ)
    # Stamped at the ticks: an observation is then complete when its image arrives, and nothing waits for a camera
    plan = RobotPlan(str(contract), {CAMERAS[0]: float(FPS)}, seconds, "", on_grid=True)
    responder = ArmProcess("responder", child_command("responder", str(contract)))

    def arm(label: str, process: ArmProcess) -> RobotReport:
        return bench.measure(f"latency_{label}", plan, [process])[0]

    reports = interleaved(
        {
            "bare": lambda: arm("bare", responder),
            "node": lambda: arm("node", policy_node(contract, "once", lock_step=True)),
            "timed": lambda: arm("timed", policy_node(contract, "once")),
        },
        repeats,
    )
    p50 = {name: [percentile(latencies_ms(r), 50) for r in several] for name, several in reports.items()}
    p95 = {name: [percentile(latencies_ms(r), 95) for r in several] for name, several in reports.items()}
    path = "stamp of a 640×480 image → command at the robot"
    return Measured(
        (
            Ratio(
                "p50, node ÷ (transport + bare forward)",
                f"{path}, by the policy node as soon as it has decided ÷ by a raw subscriber that runs the forward "
                "pass on a fixed input and publishes",
                ratios(p50["node"], p50["bare"]),
                Target("<=", 1.15),
            ),
            Ratio(
                "p95, node ÷ (transport + bare forward)", "the same, 95th percentile", ratios(p95["node"], p95["bare"])
            ),
            Ratio(
                f"p50, node at its {RATE_HZ} Hz ticks ÷ (transport + bare forward)",
                "the same, with the wait for the control tick that every command has in normal running",
                ratios(p50["timed"], p50["bare"]),
            ),
        ),
        (
            Figure("transport + bare forward p50", "ms", p50["bare"]),
            Figure("node p50", "ms", p50["node"]),
            Figure("node p95", "ms", p95["node"]),
            Figure(f"node at {RATE_HZ} Hz p50", "ms", p50["timed"]),
        ),
        (f"Ticks come every {1000 // RATE_HZ} ms, so a command at its tick comes half of that later on average.",),
    )


def latencies_ms(report: RobotReport) -> list[float]:
    """Return, of every observation that a command answers, the time from its stamp to the first such command, ms."""
    first: dict[int, int] = {}
    for received_ns, _, observation_ns in report.commands:
        if observation_ns:
            first.setdefault(observation_ns, received_ns)
    return [(received_ns - observation_ns) * 1e-6 for observation_ns, received_ns in first.items()]


CASE = Case("command_latency", "observation stamp → command", 5.0, 3, run)
