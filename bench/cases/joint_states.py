"""Case 3: does a fast topic arrive whole at the policy node?"""

from bench.arms import Bench, policy_node
from bench.cases.case import Case, Measured
from bench.contracts import JOINTS, write_contract
from bench.plans import RobotPlan
from bench.results import Figure, Ratio, Target
from bench.statistics import interleaved, ratio

RATE_HZ = 500.0


def run(bench: Bench, seconds: float, repeats: int) -> Measured:
    """Count, in the node's own diagnostics, what a publisher in another process sent."""
    contract = write_contract(bench.folder / "joint_states.yaml", [JOINTS])
    plan = RobotPlan(str(contract), {JOINTS: RATE_HZ}, seconds, "", count_topic=JOINTS)
    arms = {"node": lambda: bench.measure("joint_states", plan, [policy_node(contract, "none")])[0]}
    counts = [report.counted for report in interleaved(arms, repeats)["node"]]
    return Measured(
        (
            Ratio(
                "JointState 500 Hz, delivered ÷ sent",
                "messages that the policy node's subscription stored ÷ messages published, best effort, two processes",
                [ratio(count["delivered"], count["sent"]) for count in counts],
                Target(">=", 1.0),
            ),
        ),
        (
            Figure("sent", "messages", [count["sent"] for count in counts]),
            Figure("lost", "messages", [count["sent"] - count["delivered"] for count in counts]),
        ),
    )


CASE = Case("joint_states", "JointState at 500 Hz", 4.0, 3, run)
