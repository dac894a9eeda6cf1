"""PolicyStatus and diagnostics of the policy node, built from what its parts say. Decides nothing."""

from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from vla_ros.nodes.policy.session import PolicySession
from vla_ros.runtime import ControlState
from vla_ros.streams import LateSample
from vla_ros_msgs.msg import PolicyStatus

_STATES = {
    ControlState.WAITING: PolicyStatus.WAITING,
    ControlState.RUNNING: PolicyStatus.RUNNING,
    ControlState.HOLDING: PolicyStatus.HOLDING,
    ControlState.STOPPED: PolicyStatus.STOPPED,
}
_CLOCK_SILENT_S = 1.0


def policy_status(session: PolicySession | None, *, active: bool, message: str, enable_control: bool) -> PolicyStatus:
    """Return the node's status, without its header stamp.

    Args:
        session: What is configured, None before.
        active: Whether the node is in the lifecycle state active.
        message: Why it is not, where there is a reason to tell.
        enable_control: Whether commands are published.
    """
    status = PolicyStatus(state=PolicyStatus.INACTIVE, message=message, enable_control=enable_control)
    if session is None:
        return status
    status.checkpoint = str(session.loaded.path)
    status.instruction = session.runtime.instruction
    status.contract_hash = session.contract.hash
    control, latency = session.runtime.controller, session.runtime.latency
    status.commands, status.interventions = control.commands, control.interventions
    status.deadline_misses = session.threads.deadline_misses
    status.inference_p50, status.inference_p99 = latency.percentile_s(50), latency.percentile_s(99)
    if not active:
        return status
    now = control.status
    status.state, status.message = _STATES[now.state], now.message
    if session.clock.step:
        status.message = f"{session.clock.step} {status.message}".strip()
    if not status.message and (odd := session.warnings()):
        more = f" ({len(odd) - 1} more in the diagnostics)" if len(odd) > 1 else ""
        status.message = f"{odd[0][1]}{more}"
    status.missing = [item.key for item in now.missing]
    status.ages = [item.age_s for item in now.missing]
    if session.clock.silent_s > _CLOCK_SILENT_S:
        status.message = f"Simulated time stands still since {session.clock.silent_s:.0f} s: nothing on /clock."
        if status.state in {PolicyStatus.RUNNING, PolicyStatus.HOLDING}:
            status.state = PolicyStatus.STOPPED
    return status


def diagnostics(session: PolicySession, name: str, status: PolicyStatus) -> DiagnosticArray:
    """Return one diagnostic status for the node and one for each input, without the header stamp."""
    now_ns = session.clock.now_ns()
    missing = {item.topic: item for item in session.runtime.controller.status.missing}
    entries = [_node_entry(session, name, status)]
    odd: dict[str, list[str]] = {}
    for topic, sentence in session.warnings():
        odd.setdefault(topic, []).append(sentence)
    for stream in session.runtime.pipeline.stream_status(now_ns):
        problem = missing.get(stream.topic)
        text = "; ".join([str(problem)] if problem else odd.get(stream.topic, []))
        values = {
            "key": stream.key,
            "messages": stream.count,
            "rate_hz": f"{stream.rate_hz:.2f}",
            "age_s": f"{stream.age_s:.3f}",
            "drops": stream.drops,
            "decode_errors": stream.decode_errors,
            "unstamped": stream.unstamped,
            "overflows": stream.overflows,
            "ahead": stream.ahead,
            "late": stream.late,
            "delay_ms": "" if stream.delay_s is None else f"{stream.delay_s * 1e3:.1f}",
            "waits_ms": "max_wait_s" if stream.waits_s is None else f"{stream.waits_s * 1e3:.1f}",
            **{f"age_s of {name}": f"{age_s:.3f}" for name, age_s in stream.parts},
        }
        level = DiagnosticStatus.ERROR if problem else DiagnosticStatus.WARN if text else DiagnosticStatus.OK
        entries.append(_entry(level, f"{name}: {stream.topic}", text or "ok", values))
    return DiagnosticArray(status=entries)


def late_message(late: Sequence[LateSample]) -> DiagnosticArray:
    """Return late samples as ``vla_ros replay --late-samples`` reads them, without the header stamp.

    One status for each topic; its values are pairs of PART@STAMP, the sample's, and the newest tick that was assembled
    without it, both in ns.
    """
    entries = []
    for topic in dict.fromkeys(item.topic for item in late):
        own = {f"{item.part}@{item.stamp_ns}": item.missed_ns for item in late if item.topic == topic}
        text = f"{len(own)} samples came after a tick that they belong to"
        entries.append(_entry(DiagnosticStatus.WARN, topic, text, own))
    return DiagnosticArray(status=entries)


def _node_entry(session: PolicySession, name: str, status: PolicyStatus) -> DiagnosticStatus:
    control, latency, threads = session.runtime.controller, session.runtime.latency, session.threads
    newest = session.runtime.executor.newest
    values: dict[str, Any] = {f"inference_p{p}_ms": f"{latency.percentile_s(p) * 1e3:.2f}" for p in (50, 95, 99)}
    values |= {f"lateness_p{p}_ms": f"{threads.lateness.percentile_s(p) * 1e3:.3f}" for p in (50, 99)}
    values |= {
        "commands": control.commands,
        "deadline_misses": threads.deadline_misses,
        "chunk_id": newest.chunk_id if newest else 0,
        "contract_hash": session.contract.hash,
        "checkpoint": status.checkpoint,
        "enable_control": status.enable_control,
    }
    values |= {f"safety.{kind}": count for kind, count in sorted(session.runtime.safety.counts.items())}
    level = {
        PolicyStatus.STOPPED: DiagnosticStatus.ERROR,
        PolicyStatus.HOLDING: DiagnosticStatus.WARN,
    }.get(status.state, DiagnosticStatus.OK)
    return _entry(level, f"{name}: policy", status.message or "ok", values)


def _entry(level: bytes, name: str, message: str, values: dict[str, Any]) -> DiagnosticStatus:
    pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return DiagnosticStatus(level=level, name=name, message=message, values=pairs)
