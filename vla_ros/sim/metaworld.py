"""MetaWorld's arm as a simulated robot with cameras, sensors and scripted experts; the simulator ``metaworld``."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract
from vla_ros.data_types import NANOSECONDS, ConfigError
from vla_ros.data_types.resources import resource_path
from vla_ros.sim.cameras import CameraRig
from vla_ros.sim.config import SimConfig, load_sim_config
from vla_ros.sim.expert import Demonstrator
from vla_ros.sim.goals import goal_snapshot
from vla_ros.sim.messages import Encode, RosbagsMaker, SensorMessages
from vla_ros.sim.metaworld_robot import GRIPPER_OPEN, STEP_NS, MetaWorldRobot
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


@dataclass
class _Sensed:
    """What was computed of a state, for the messages that share it."""

    images: dict[str, NDArray[np.uint8]] | None = None
    goal: dict[str, NDArray[np.uint8]] | None = None


@dataclass
class _Motion:
    """What the arm does until it is told otherwise."""

    velocity: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    gripper: float = GRIPPER_OPEN


class MetaWorld:
    """A `vla_ros.sim.Robot`: the arm, what it senses as messages, and its cameras.

    Args:
        contract: The action must be a displacement with a gripper.
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
        action = contract.action
        if action.representation != "displacement" or action.rotation != "none" or action.gripper is None:
            raise ConfigError(
                f"{contract.source}: the simulated arm takes a displacement without rotation and a gripper."
            )
        self.arm, self._contract = arm, contract
        self._rig = CameraRig(arm.model, config.cameras)
        self._messages = SensorMessages(contract, config, lambda: self.arm, RosbagsMaker())
        self._encoders: dict[InputSpec, Encode] = {}
        self._experts: dict[str, Demonstrator] = {}
        self._sensed, self._motion = _Sensed(), _Motion()

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
        self._sensed, self._motion = _Sensed(), _Motion()

    def command(self, action: NDArray[np.float64] | None, period_ns: int) -> None:
        """Take up a displacement [dx, dy, dz] in m over a period, and a gripper from −1 (open) to 1 (closed)."""
        if action is None:
            self._motion.velocity = np.zeros(3)
        else:
            self._motion = _Motion(action[:3] * (NANOSECONDS / period_ns), float(action[3]))

    def step(self) -> None:
        """Simulate 12.5 ms."""
        self.arm.step(self._motion.velocity, self._motion.gripper)
        self._sensed.images = None

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
        if self._sensed.images is None:
            self._sensed.images = self._rig.render(self.arm.snapshot())
        return self._messages.image(spec, stamp_ns, self._sensed.images[spec.key])

    def demonstrator(self, policy: str) -> Decide:
        """Return the task's scripted expert, or uniform random actions.

        Raises:
            ConfigError: `policy` is neither ``expert`` nor ``random``.
        """
        if policy not in self._experts:
            self._experts[policy] = Demonstrator(self.task, policy)  # type: ignore[arg-type]  # it refuses others
        expert = self._experts[policy]
        expert.begin_episode(self.seed)
        decide: Callable[[], NDArray[np.float64]] = lambda: expert.decide(self.arm.privileged_observation).executed  # noqa: E731
        return decide

    def close(self) -> None:
        """Free the OpenGL contexts; in the thread that made the robot."""
        self._rig.close()

    def _encoder(self, spec: InputSpec) -> Encode:
        if spec not in self._encoders:
            self._encoders[spec] = self._messages.encoder(spec)
        return self._encoders[spec]

    def _goal(self, spec: InputSpec, stamp_ns: int) -> Any:
        if self._sensed.goal is None:
            self._sensed.goal = self._rig.render(goal_snapshot(self.arm, self._contract))
        image = self._sensed.goal[spec.camera or ""]
        return self._messages.picture(spec.type, self._messages.header(stamp_ns), image)
