"""Case 4: what the policy node's way to an image costs beside merely receiving it."""

from functools import partial

import numpy as np

from bench.arms import Bench
from bench.cases.case import Case, Measured
from bench.contracts import CAMERAS, write_contract
from bench.plans import RobotPlan, RobotReport, SubscriberReport
from bench.results import Figure, Ratio, Target
from bench.statistics import interleaved, ratio, ratios

RATE_HZ = 30
_NOTE = (
    "Keeping messages is cheaper than dropping them: glibc gives 0.9 MB that are freed back to the kernel, and every "
    "page of the next message faults again."
)


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Compare processor time of four subscribers to one camera."""
    contract = write_contract(bench.folder / "camera.yaml", CAMERAS[:1], fps=RATE_HZ, control_rate_hz=RATE_HZ)
    plan = RobotPlan(str(contract), {CAMERAS[0]: float(RATE_HZ)}, seconds, "", wait_for="subscribers")

    def arm(path: str) -> tuple[RobotReport, SubscriberReport]:
        robot, others = bench.measure(f"camera_{path}", plan, [bench.subscriber(contract, path)])
        return robot, others["subscriber"]

    paths = ("keep", "frames", "store", "drop")
    outcomes = interleaved({path: partial(arm, path) for path in paths}, repeats)
    cpu = {path: [cpu_percent(robot, other) for robot, other in outcomes[path]] for path in paths}
    arrived = {path: [arrived_share(robot, other) for robot, other in outcomes[path]] for path in paths}
    camera = "640×480 rgb8 at 30 Hz"
    return Measured(
        (
            Ratio(
                "CPU, camera path ÷ cheapest subscriber",
                f"processor time of the policy node's session on {camera}: subscription, buffer, every tick decoded "
                "and resized to 224×224, control thread, no policy ÷ of a raw subscriber that keeps its last messages",
                ratios(cpu["frames"], cpu["keep"]),
                Target("<=", 1.3),
            ),
            Ratio(
                "CPU, camera path ÷ subscriber that drops",
                "the same ÷ of a raw subscriber that lets go of every message at once",
                ratios(cpu["frames"], cpu["drop"]),
            ),
            Ratio(
                "CPU, stamp and store ÷ cheapest subscriber",
                "the node's subscription and buffer alone, nothing assembled ÷ of the cheapest subscriber",
                ratios(cpu["store"], cpu["keep"]),
            ),
        ),
        (
            Figure("cheapest subscriber (keeps 32 messages)", "% of a core", cpu["keep"]),
            Figure("subscriber that drops", "% of a core", cpu["drop"]),
            Figure("stamp and store", "% of a core", cpu["store"]),
            Figure("camera path", "% of a core", cpu["frames"]),
            Figure("camera path, received ÷ sent", "", arrived["frames"]),
        ),
        (_NOTE,),
    )


def cpu_percent(robot: RobotReport, other: SubscriberReport) -> float | None:
    """Return a process's processor time within the robot's window, % of one core; None when it does not cover it."""
    spent_ns = _within(robot, other, 1)
    begin_ns, end_ns = robot.window_ns
    return None if spent_ns is None else 100.0 * spent_ns / (end_ns - begin_ns)


def arrived_share(robot: RobotReport, other: SubscriberReport) -> float | None:
    """Return messages received ÷ sent within the window, to the tenth of a second in which they were counted."""
    return ratio(_within(robot, other, 2), sum(robot.sent.values()))


def _within(robot: RobotReport, other: SubscriberReport, column: int) -> float | None:
    """Return by how much a column of `SubscriberReport.cpu` rose in the robot's window, interpolated."""
    samples = np.asarray(other.cpu, dtype=np.float64).reshape(-1, 3)
    begin_ns, end_ns = robot.window_ns
    if not len(samples) or samples[0, 0] > begin_ns or samples[-1, 0] < end_ns:
        return None
    begin, end = np.interp([begin_ns, end_ns], samples[:, 0], samples[:, column])
    return float(end - begin)


CASE = Case("camera_cpu", "CPU of the camera path", 3.0, 3, run)
