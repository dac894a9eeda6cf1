"""MetaWorld's arm as a simulated robot with cameras, sensors and scripted experts; the simulator ``metaworld``."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract, SinkSpec
from vla_ros.data_types import ConfigError
from vla_ros.data_types.resources import resource_path
from vla_ros.sim.cameras import CameraRig
from vla_ros.sim.commands import SimCommand
from vla_ros.sim.egl import require_rendering
from vla_ros.sim.message_maker import RosbagsMaker
from vla_ros.sim.metaworld.arm import GRIPPER_OPEN, STEP_NS, MetaWorldRobot
from vla_ros.sim.metaworld.config import SimConfig, load_sim_config
from vla_ros.sim.metaworld.expert import M_PER_UNIT, Demonstrator
from vla_ros.sim.metaworld.frames import frames_of
from vla_ros.sim.metaworld.goals import goal_snapshot
from vla_ros.sim.metaworld.motion import COMMAND_TYPES, ArmOrder, Motion, check_action, order_of_action, read_command
from vla_ros.sim.metaworld.sensors import Encode, SensorMessages
from vla_ros.sim.parts import FrameTransform
from vla_ros.sim.robot import Decide, SimRequest

DEFAULT_TASK = "push-v3"
DEFAULT_CONFIG = "config/sim/metaworld_sawyer.yaml"


def make_robot(request: SimRequest) -> "MetaWorld":
    """Build the arm that a request asks for, with the shipped sensors unless its file says others.

    Raises:
        UserError: There is no such task, the file is malformed, or the arm cannot obey the contract's action.
    """
    config = load_sim_config(request.config or resource_path(DEFAULT_CONFIG))
    return MetaWorld(request.contract, MetaWorldRobot(request.task or DEFAULT_TASK, config, request.seed), config)


class MetaWorld:
    """A `vla_ros.sim.Robot` with frames, calibrated cameras and commands of its own: the arm and what it senses.

    Args:
        contract: The action must be a motion of the end effector.
        arm: The physics.
        config: What stands behind each input.

    Attributes:
        arm: As given.

    Raises:
        ConfigError: The contract's action is of another kind.
        RenderingError: The machine cannot render off-screen.
    """

    step_ns = STEP_NS

    def __init__(self, contract: RobotContract, arm: MetaWorldRobot, config: SimConfig) -> None:
        check_action(contract)
        if config.cameras:
            require_rendering()
        self.arm, self._contract, self._config = arm, contract, config
        self.command_types = COMMAND_TYPES
        scale = np.full(len(contract.action.names), M_PER_UNIT)
        scale[3:] = 0.0
        self.noise_scale = scale
        self._rig: CameraRig | None = None
        self._messages = SensorMessages(contract, config, lambda: self.arm, RosbagsMaker())
        self._encoders: dict[InputSpec, Encode] = {}
        self._experts: dict[str, Demonstrator] = {}
        self._begin()

    def _begin(self) -> None:
        self._motion = Motion(STEP_NS, GRIPPER_OPEN)
        self._images: dict[str, NDArray[np.uint8]] | None = None
        self._goal_images: dict[str, NDArray[np.uint8]] | None = None
        self._rendered: tuple[int, dict[str, NDArray[np.uint8]]] | None = None

    @property
    def task(self) -> str:
        """Name of the task, e.g. ``push-v3``."""
        return self.arm.task

    @property
    def seed(self) -> int:
        """Start of the present episode."""
        return self.arm.seed

    @property
    def success(self) -> bool:
        """Whether the task has been done."""
        return self.arm.success

    @property
    def reward(self) -> float:
        """MetaWorld's, of the last step."""
        return self.arm.reward

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`, the gripper open."""
        self.arm.reset(seed)
        self._begin()

    def command(self, action: ArmOrder | NDArray[np.float64] | None, period_ns: int) -> None:
        """Take up an action of the contract, or an order that `read_command` has made."""
        if action is None or isinstance(action, ArmOrder):
            self._motion.take(action, period_ns)
        else:
            self._motion.take(order_of_action(action, self._contract), period_ns)

    def read_command(self, sink: SinkSpec, message: Any, now_ns: int) -> SimCommand:  # noqa: ARG002 (they have stamps)
        """Read an EndEffectorAction, TwistStamped or PoseStamped.

        Raises:
            CommandRefusedError: The arm cannot obey it.
        """
        return read_command(self._contract, sink, message)

    def step(self) -> None:
        """Simulate 12.5 ms."""
        velocity = self._motion.step(self.arm.set_point)
        self.arm.step(velocity, self._motion.gripper)
        self._images = None

    def check_input(self, spec: InputSpec) -> None:
        """Refuse an input without a source.

        Raises:
            ConfigError: Names the nearest source.
        """
        if spec.image is None:
            self._encoder(spec)
        elif not spec.is_latched:
            self._messages.check_camera(spec.key)

    def message(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return an input's message of the present state, all cameras rendered at once."""
        if spec.image is None:
            return self._encoder(spec)(stamp_ns)
        if spec.is_latched:
            return self._goal(spec, stamp_ns)
        if self._images is None:
            self._images = self._render(self.arm.snapshot())
        return self._messages.image(spec, stamp_ns, self._images[spec.key])

    def snapshot(self, into: Any = None) -> Any:
        """Copy the state, in 10 µs."""
        return self.arm.snapshot(into)

    def picture(self, spec: InputSpec, stamp_ns: int, snapshot: Any) -> Any:
        """Return an image of a snapshot, all cameras rendered at once."""
        if self._rendered is None or self._rendered[0] != stamp_ns:
            self._rendered = stamp_ns, self._render(snapshot)
        return self._messages.image(spec, stamp_ns, self._rendered[1][spec.key])

    def camera_info(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return the intrinsics of the camera behind an input."""
        return self._messages.camera_info(spec, stamp_ns, self.arm.model)

    def frames(self) -> Sequence[FrameTransform]:
        """Return where hand, cameras, scanner and IMU are."""
        return frames_of(self._contract, self._config, self.arm)

    def demonstrator(self, policy: str) -> Decide:
        """Return the task's scripted expert, or uniform random actions.

        Raises:
            ConfigError: `policy` is neither ``expert`` nor ``random``, or the action is no displacement with a gripper.
        """
        spec = self._contract.action
        if spec.representation != "displacement" or spec.rotation != "none" or spec.gripper is None:
            raise ConfigError(
                f"{self._contract.source}: MetaWorld's experts demonstrate displacements without rotation and a "
                f"gripper; the action is a {spec.representation}."
            )
        if policy not in self._experts:
            self._experts[policy] = Demonstrator(self.task, policy)  # type: ignore[arg-type]  # it refuses others
        expert = self._experts[policy]
        expert.begin_episode(self.seed)
        decide: Callable[[], NDArray[np.float64]] = lambda: self._in_contract(  # noqa: E731
            expert.decide(self.arm.privileged_observation)
        )
        return decide

    def _in_contract(self, action: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return an expert's action with its gripper, −1 (open) … 1 (closed), in the contract's terms."""
        gripper = self._contract.action.gripper
        if gripper is None:
            raise AssertionError("checked where the demonstrator is made")
        share = (action[3] + 1.0) / 2.0
        return np.append(action[:3], gripper.open + share * (gripper.closed - gripper.open))

    def close(self) -> None:
        """Free the OpenGL contexts; in the thread that asked for pictures."""
        if self._rig is not None:
            self._rig.close()

    def _render(self, snapshot: Any) -> dict[str, NDArray[np.uint8]]:
        if self._rig is None:  # in the thread that asks, which then owns the context
            self._rig = CameraRig(self.arm.model, self._config.cameras)
        return self._rig.render(snapshot)

    def _encoder(self, spec: InputSpec) -> Encode:
        if spec not in self._encoders:
            self._encoders[spec] = self._messages.encoder(spec)
        return self._encoders[spec]

    def _goal(self, spec: InputSpec, stamp_ns: int) -> Any:
        if self._goal_images is None:
            self._goal_images = self._render(goal_snapshot(self.arm, self._contract))
        image = self._goal_images[spec.camera or ""]
        return self._messages.picture(spec.type, self._messages.header(stamp_ns), image)
