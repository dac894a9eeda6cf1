"""The cases by name, in the order in which they run."""

from bench.cases import (
    camera_cpu,
    command_latency,
    conversion,
    joint_states,
    tick_lateness,
    ticks_lost,
    training_throughput,
    transport,
)
from bench.cases.case import Case

CASES: dict[str, Case] = {
    case.name: case
    for case in (
        tick_lateness.CASE,
        command_latency.CASE,
        joint_states.CASE,
        camera_cpu.CASE,
        ticks_lost.CASE,
        transport.CASE,
        conversion.CASE,
        training_throughput.CASE,
    )
}
