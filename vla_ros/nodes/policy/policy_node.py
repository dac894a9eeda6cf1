"""The policy node: a lifecycle node that hosts any checkpoint and commands the robot of its contract.

Transitions, services and timers only. What runs between configure and cleanup is a `PolicySession`.
"""

import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rcl_interfaces.msg import SetParametersResult
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.signals import SignalHandlerOptions
from rclpy.task import Future
from std_srvs.srv import Trigger

from vla_ros.data_types import CheckpointError, UserError
from vla_ros.messages.executor import make_executor, spin_until
from vla_ros.nodes.common.memory import keep_message_buffers
from vla_ros.nodes.common.parameters import declare_parameters
from vla_ros.nodes.policy.policy_parameters import POLICY_PARAMETERS
from vla_ros.nodes.policy.session import PolicySession
from vla_ros.nodes.policy.status import diagnostics, late_message, policy_status
from vla_ros.runtime.loading import LoadCheckpoint, LoadedPolicy, load_policy
from vla_ros.safety import StopLatch
from vla_ros_msgs.msg import PolicyStatus
from vla_ros_msgs.srv import LoadPolicy, SetInstruction

if TYPE_CHECKING:
    from vla_ros.checkpoint import Checkpoint

Result = TypeVar("Result")

_HOUSEKEEPING_S = 0.1
_GOODBYE_S = 1.0
_REPORTS_EVERY = 10  # housekeeping periods
_SILENT_AFTER = 30
_BULKY = ("sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2")


def read_checkpoint(path: str, device: str) -> "Checkpoint":
    """Read a checkpoint folder onto a device; torch is imported when the first one is read."""
    from vla_ros.checkpoint import load_checkpoint

    return load_checkpoint(path, device)


class PolicyNode(LifecycleNode):
    """Runs a policy as the parameters in `POLICY_PARAMETERS` say.

    Args:
        load: Reads a checkpoint folder onto a device.
        options: Passed on to rclpy's node.

    Raises:
        ConfigError: A parameter is unknown or does not fit its row.
    """

    def __init__(self, load: LoadCheckpoint = read_checkpoint, **options: Any) -> None:
        super().__init__("policy_node", **options)
        self._load = load
        self.values = declare_parameters(self, POLICY_PARAMETERS)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._session: PolicySession | None = None
        self._stop = StopLatch()
        self._active = self.is_finalized = False
        self.message = "Not configured."
        self._told: tuple[int, ...] = ()
        self._periods = self._active_periods = 0
        self._pending: list[tuple[threading.Thread, Callable[[], None]]] = []
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._status_publisher = self.create_publisher(PolicyStatus, "~/status", latched)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 1)
        self._late_publisher = self.create_publisher(DiagnosticArray, "~/late_samples", 100)
        self.create_service(SetInstruction, "~/set_instruction", self._on_set_instruction)
        self.create_service(LoadPolicy, "~/load_policy", self._on_load_policy)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/reset_stop", self._on_reset_stop)
        # Steady time: the node must tell that simulated time stands still, which is when its own timers would too.
        self.create_timer(_HOUSEKEEPING_S, self._keep_house, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def on_configure(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Load the checkpoint, check it against the contract, warm it up, subscribe and advertise."""
        return self._transition(self._configure)

    def on_activate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Start observing and commanding."""
        return self._transition(self._activate)

    def on_deactivate(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Command zero motion, then stop both threads; a fault found by them leads on to the error path."""
        fault = self._fault()
        result = self._transition(self._deactivate)
        if fault:
            self._say(fault)
            return TransitionCallbackReturn.ERROR
        return result

    def on_cleanup(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Let go of policy, subscriptions and publishers."""
        return self._transition(self._close)

    def on_shutdown(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """As deactivate and cleanup; the process ends."""
        self.is_finalized = True
        return self._transition(self._close)

    def on_error(self, _state: LifecycleState) -> TransitionCallbackReturn:
        """Clean up and return to unconfigured, from where the node can be configured again."""
        kept = self.message
        result = self._transition(self._close)
        self._say(kept)
        return result

    def close(self) -> None:
        """Command zero motion and let go of everything; the executor no longer spins."""
        self._close()
        for thread, _ in self._pending:
            thread.join(_GOODBYE_S)
        self.destroy_node()

    def _transition(self, step: Callable[[], None]) -> TransitionCallbackReturn:
        """Run a step; what the user can mend fails the transition, anything else is an error."""
        try:
            step()
        except UserError as reason:
            self._say(str(reason))
            self.get_logger().error(str(reason))
            return TransitionCallbackReturn.FAILURE
        except Exception as reason:  # noqa: BLE001 (rclpy would swallow it without a word)
            self._say(f"{type(reason).__name__}: {' '.join(str(reason).split())[:300]}")
            self.get_logger().error(traceback.format_exc())
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    def _configure(self) -> None:
        loaded = load_policy(self.values, self._load)
        self._session = PolicySession(
            self, self.values, loaded, lambda: bool(self.values["enable_control"]), self._stop
        )
        self._say("")
        self.get_logger().info(
            f"configured: {loaded.path} on {loaded.contract.robot_type}, contract {loaded.contract.hash}, "
            f"inference in a {self.values['inference']} with {loaded.threads} torch threads"
        )

    def _activate(self) -> None:
        if self._session is not None:
            self._session.start()
        self._active, self._active_periods = True, 0
        if not self.values["enable_control"]:
            self.get_logger().warning("dry run: enable_control is false, no commands are published")
        self._report()

    def _deactivate(self) -> None:
        self._active = False
        if self._session is not None:
            self._session.stop()
        self._say("")

    def _close(self) -> None:
        if self._active:
            self._deactivate()
        if self._session is not None:
            self._session.close()
            self._session = None
        self._say("Not configured.")

    def _fault(self) -> str:
        session = self._session
        return session.threads.fault if session is not None and self._active else ""

    def _keep_house(self) -> None:
        """Ten times a second: end what must end, finish what other threads prepared, tell what changed."""
        self._periods += 1
        session = self._session
        if session is not None and self._active:
            self._active_periods += 1
            if fault := self._fault():
                self.get_logger().error(fault)
                self.trigger_deactivate()
            elif session.runtime.controller.must_abort:
                cause = session.runtime.controller.status.message
                self.get_logger().error(cause)
                self.trigger_deactivate()
                self._say(cause)
            elif self._active_periods % _REPORTS_EVERY == 0:
                session.count_publishers()
            if self._active_periods == _SILENT_AFTER:
                self._hint_at_transport(session)
        if session is not None and (late := session.runtime.pipeline.take_late()):
            message = late_message(late)
            message.header.stamp = self.get_clock().now().to_msg()
            self._late_publisher.publish(message)
        for entry in [entry for entry in self._pending if not entry[0].is_alive()]:
            self._pending.remove(entry)
            entry[1]()
        self._report()

    def _say(self, message: str) -> None:
        self.message = message
        self._report()

    def _report(self) -> None:
        """Publish the status when it changed and once a second, with diagnostics."""
        status = policy_status(
            self._session,
            active=self._active,
            message=self.message,
            enable_control=bool(self.values["enable_control"]),
        )
        told = (status.state, *(hash(part) for part in (*status.missing, status.instruction, status.checkpoint)))
        told += (hash(self.message), int(status.enable_control))
        due = self._periods >= _REPORTS_EVERY
        if told == self._told and not due:
            return
        self._told = told
        status.header.stamp = self.get_clock().now().to_msg()
        self._status_publisher.publish(status)
        if due:
            self._periods = 0
            if self._session is not None:
                array = diagnostics(self._session, self.get_name(), status)
                array.header.stamp = status.header.stamp
                self._diagnostics_publisher.publish(array)

    def _hint_at_transport(self, session: PolicySession) -> None:
        """Say what is usually wrong when a bulky best-effort topic has a publisher and yet nothing comes."""
        streams = session.runtime.pipeline.stream_status(session.clock.now_ns())
        for spec, stream in zip(session.runtime.specs, streams, strict=True):
            bulky = spec.type in _BULKY and spec.qos.reliability == "best_effort"
            if bulky and stream.count == 0 and self.count_publishers(spec.topic):
                self.get_logger().warning(
                    f"{spec.topic} has a publisher but nothing arrives: Fast DDS drops large best-effort messages with "
                    "its default buffers; set FASTDDS_DEFAULT_PROFILES_FILE to config/fastdds.xml for both nodes."
                )

    def _on_set_parameters(self, parameters: Sequence[Parameter]) -> SetParametersResult:
        rows = {row.name: row for row in POLICY_PARAMETERS}
        for parameter in parameters:
            row = rows.get(parameter.name)
            if row is None:
                continue
            try:
                self.values[row.name] = row.check(parameter.value)
            except UserError as reason:
                return SetParametersResult(successful=False, reason=str(reason))
        return SetParametersResult(successful=True)

    async def _on_set_instruction(
        self, request: SetInstruction.Request, response: SetInstruction.Response
    ) -> SetInstruction.Response:
        """Make the instruction ready in a thread, while the old one goes on, and answer when it holds."""
        session = self._session
        if session is None:
            response.message = "The node is not configured."
            return response
        _, response.message = await self._in_thread(lambda: session.set_instruction(request.instruction))
        if not response.message:
            self.get_logger().info(f"instruction is '{request.instruction}'")
            response.success, response.message = True, f"instruction is '{request.instruction}'"
        self._report()
        return response

    async def _on_load_policy(self, request: LoadPolicy.Request, response: LoadPolicy.Response) -> LoadPolicy.Response:
        """Load in a thread, while the running policy goes on, and answer when the new one is in place."""
        session = self._session
        if session is None:
            response.message = "The node is not configured; set the parameter 'checkpoint' and configure it."
            return response
        values = {**self.values, "checkpoint": request.checkpoint, "instruction": session.runtime.instruction}

        def load() -> LoadedPolicy:
            loaded = load_policy(values, self._load, session.contract)
            try:
                session.runtime.check_exchange(loaded.predictor)
            except UserError as reason:
                loaded.predictor.close()
                raise CheckpointError(f"{loaded.path} {reason}") from reason
            loaded.predictor.prepare(session.runtime.instruction)
            return loaded

        loaded, response.message = await self._in_thread(load)
        if loaded is None:
            return response
        if self._session is not session:
            response.message = "The node was cleaned up while the policy was loading."
            return response
        try:
            session.exchange(loaded)
        except UserError as reason:  # the instruction was changed while it loaded
            response.message = str(reason)
            return response
        self.get_logger().info(f"{request.checkpoint} is loaded")
        self._report()
        response.success, response.message = True, f"{request.checkpoint} is loaded"
        return response

    async def _in_thread(self, work: Callable[[], Result]) -> tuple[Result | None, str]:
        """Run what may take long beside the callbacks; return its result, or what went wrong in a sentence."""
        outcome: list[tuple[Result | None, str]] = []

        def run() -> None:
            try:
                outcome.append((work(), ""))
            except UserError as reason:
                outcome.append((None, str(reason)))
            except Exception as reason:  # noqa: BLE001 (told to the caller, who waits for an answer)
                outcome.append((None, f"failed: {type(reason).__name__}: {' '.join(str(reason).split())[:300]}"))
                self.get_logger().error(traceback.format_exc())

        done: Any = Future()
        thread = threading.Thread(target=run, name="service", daemon=True)
        self._pending.append((thread, lambda: done.set_result(None)))
        thread.start()
        await done
        return outcome[0]

    def _on_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._set_latch(response, stopped=True)

    def _on_reset_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._set_latch(response, stopped=False)

    def _set_latch(self, response: Trigger.Response, *, stopped: bool) -> Trigger.Response:
        """Set the latch, in whatever state the node is; it holds over deactivation and cleanup."""
        if stopped:
            self._stop.latch()
        else:
            self._stop.reset()
        self.get_logger().warning("stop latched" if stopped else "stop reset")
        self._report()
        response.success, response.message = True, "stopped" if stopped else "commands may pass"
        return response


def main(args: Sequence[str] | None = None, load: LoadCheckpoint = read_checkpoint) -> int:
    """Run the node until SIGINT, SIGTERM or a shutdown transition; return the exit code."""
    keep_message_buffers()
    # rclpy's own handlers would shut the context down before the zero command could be published.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    try:
        node = PolicyNode(load)
    except UserError as reason:
        print(f"error: {reason}", file=sys.stderr)
        rclpy.try_shutdown()
        return 2
    try:
        if node.values["autostart"] and not _autostart(node) and node.values["exit_on_failure"]:
            return 2  # the transition has logged why
        executor = make_executor()
        executor.add_node(node)
        spin_until(executor, lambda: ended.is_set() or node.is_finalized)
        executor.remove_node(node)
        executor.shutdown()
    finally:
        node.close()
        rclpy.try_shutdown()
    return 0


def _autostart(node: PolicyNode) -> bool:
    success = TransitionCallbackReturn.SUCCESS
    return bool(node.trigger_configure() == success and node.trigger_activate() == success)


if __name__ == "__main__":
    sys.exit(main())
