"""The mobile base as a `vla_ros.sim.Robot` with frames, calibrated cameras and a tracker of paths."""

from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

from vla_ros.contract import InputSpec, RobotContract, SinkSpec
from vla_ros.data_types import NANOSECONDS, ConfigError, nearest_name
from vla_ros.data_types.resources import resource_path
from vla_ros.sim.cameras import CameraRig, focal_length_px
from vla_ros.sim.commands import SimCommand
from vla_ros.sim.config import CameraConfig
from vla_ros.sim.egl import require_rendering
from vla_ros.sim.message_maker import camera_info, picture
from vla_ros.sim.mobile_base.base import STEP_NS, STEP_S, DifferentialDrive
from vla_ros.sim.mobile_base.config import MobileBaseConfig, load_base_config
from vla_ros.sim.mobile_base.frames import frames_of
from vla_ros.sim.mobile_base.messages import BaseMessages
from vla_ros.sim.mobile_base.model import build_model
from vla_ros.sim.mobile_base.path_following import PATH, PathOrder, PathTracker, read_path
from vla_ros.sim.mobile_base.radar import FIELDS, Echoes, RadarSensor
from vla_ros.sim.mobile_base.scanner import RingScanner, Scan
from vla_ros.sim.mobile_base.worlds import Situation, World, make_world
from vla_ros.sim.parts import FrameTransform
from vla_ros.sim.robot import Decide, SimRequest

DEFAULT_CONFIG = "config/sim/mobile_base.yaml"
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION
_DARK_LEVEL, _DARK_NOISE = 4.0, 3.0  # of a pixel of 255


def make_robot(request: SimRequest) -> "MobileBase":
    """Build the base that a request asks for, with the shipped sensors unless its file says others.

    Raises:
        UserError: There is no such task, the file is malformed, or the base cannot obey the contract's action.
    """
    config = load_base_config(request.config or resource_path(DEFAULT_CONFIG))
    return MobileBase(request.contract, config, make_world(request.task), request.seed)


class MobileBase:
    """A base in a world.

    Args:
        contract: The action must be a planar twist of speed and rate of turn.
        config: Body and sensors.
        world: What is around it.
        seed: Of the first episode.

    Attributes:
        base: The physics.
        world: As given.

    Raises:
        ConfigError: The contract's action is of another kind.
        RenderingError: The machine cannot render off-screen.
    """

    step_ns = STEP_NS
    command_types = (PATH,)

    def __init__(self, contract: RobotContract, config: MobileBaseConfig, world: World, seed: int = 0) -> None:
        action = contract.commanded.action
        if action.representation != "planar_twist" or len(action.names) != 2:
            raise ConfigError(
                f"{contract.source}: the mobile base's action is its speed and its rate of turn (planar_twist), or a "
                f"trajectory; the contract's is a {action.representation} of {', '.join(action.names)}."
            )
        if config.cameras:
            require_rendering()
        self.world, self._contract, self._config = world, contract, config
        self.task = world.task
        self._model = build_model(config, world.elements())
        self.base = DifferentialDrive(self._model, config)
        self._scanners = {key: RingScanner(spec) for key, spec in config.scanners.items()}
        self._radars = {key: RadarSensor(spec) for key, spec in config.radars.items()}
        self._cameras = {key: CameraConfig(key, spec.height, spec.width) for key, spec in config.cameras.items()}
        self._messages = BaseMessages(contract, config)
        self._rig: CameraRig | None = None
        self._state = np.empty(mujoco.mj_stateSize(self._model, _STATE))
        self._rendered: tuple[int, dict[str, NDArray[np.uint8]]] | None = None
        self.reset(seed)

    @property
    def noise_scale(self) -> NDArray[np.float64]:
        """Noise of 1 is the expert's usual speed, and as much turning as it can do."""
        return np.array((0.3, self._config.drive.max_turn))

    @property
    def situation(self) -> Situation:
        """What the world is told of the base."""
        force = np.array(self.base.data.sensor("acceleration").data)
        pose = self.base.pose
        ahead = float(self.base.velocity[:2] @ (np.cos(pose[2]), np.sin(pose[2])))
        return Situation(pose, ahead, self._steps * STEP_S, self.base.touched, force)

    def reset(self, seed: int) -> None:
        """Begin the episode of `seed`."""
        self.seed, self.success, self.failure, self.reward = int(seed), False, "", 0.0
        start = self.world.place(self.base.data, np.random.default_rng((self.seed, 0)))
        self.base.reset(*start, np.random.default_rng((self.seed, 1)))
        self._steps, self._rendered = 0, None
        self._tracker = PathTracker(self._config.drive.max_turn)
        self._measured: dict[str, tuple[int, Any]] = {}
        mujoco.mj_forward(self._model, self.base.data)
        self._note_pose()

    def command(self, action: NDArray[np.float64] | PathOrder | None, period_ns: int) -> None:  # noqa: ARG002 (it lasts)
        """Take up a twist [speed in m/s, rate of turn in rad/s] or a path to follow."""
        if isinstance(action, PathOrder):
            self._tracker.follow(action)
            return
        self._tracker.drop()
        if action is None:
            self.base.want(0.0, 0.0)
        else:
            self.base.want(*np.nan_to_num(action))

    def read_command(self, sink: SinkSpec, message: Any, now_ns: int) -> SimCommand:  # noqa: ARG002 (they have stamps)
        """Read a nav_msgs/Path in the base's or the odometry's frame.

        Raises:
            CommandRefusedError: It is malformed, empty or in another frame.
        """
        frames = self._contract.base_frame, self._config.odometry.frame
        stamp_ns, order = read_path(message, *frames)
        lasts_ns = max(round(float(order.times_s[-1]) * NANOSECONDS), NANOSECONDS // self._contract.fps)
        return SimCommand(stamp_ns, order, lasts_ns)

    def step(self) -> None:
        """Simulate 10 ms."""
        if self.failure:
            self.base.want(0.0, 0.0)
        elif self._tracker.order is not None:
            self.base.want(*self._tracker.twist(self.base.odometry))
        self.base.step()
        self._steps += 1
        situation = self.situation
        self.world.advance(self.base.data, situation)
        self.failure = self.failure or ("" if self.success else self.world.failure(situation))
        self.success = self.success or (not self.failure and self.world.is_done(situation))
        self.reward = float(self.success)
        self._note_pose()

    def _note_pose(self) -> None:
        self._tracker.note(self._steps, self.base.odometry)

    def check_input(self, spec: InputSpec) -> None:
        """Refuse an input without a source.

        Raises:
            ConfigError: Names the nearest source.
        """
        kind, config = spec.type.rpartition("/")[2], self._config
        sources: dict[str, dict[str, Any]] = {
            "Image": {**config.cameras, **config.radars},
            "CompressedImage": config.cameras,
            "LaserScan": config.scanners,
            "PointCloud2": {**config.scanners, **config.radars},
        }
        if kind in sources:
            if spec.key not in sources[kind] and not spec.is_latched:
                raise ConfigError(
                    f"{config.source}: has no source for '{spec.key}' ({kind}), which the contract publishes."
                    f"{nearest_name(spec.key, sources[kind])}"
                )
        elif kind not in ("Imu", "Odometry", "PointStamped", "TFMessage", "String"):
            raise ConfigError(f"{self._contract.source}: {spec.key}: the mobile base has no source of {spec.type}.")

    def message(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return an input's message of the present state."""
        kind = spec.type.rpartition("/")[2]
        if spec.key in self._config.cameras:
            return self.picture(spec, stamp_ns, None)
        if spec.key in self._scanners:
            return self._scan_message(spec, stamp_ns)
        if spec.key in self._radars:
            return self._radar_message(spec, stamp_ns)
        if kind == "Imu":
            return self._messages.imu(spec, stamp_ns, self.base)
        if kind == "Odometry":
            return self._messages.odometry(spec, stamp_ns, self.base)
        return self._messages.goal(spec, stamp_ns, self.world.goal, self.base.pose)

    def _scan_message(self, spec: InputSpec, stamp_ns: int) -> Any:
        scan = self._scan(spec.key)
        if spec.type.endswith("/LaserScan"):
            return self._messages.laser_scan(spec, stamp_ns, scan, self._config.scanners[spec.key])
        return self._messages.cloud(spec, stamp_ns, scan.points, "xyz")

    def _radar_message(self, spec: InputSpec, stamp_ns: int) -> Any:
        radar, echoes = self._radars[spec.key], self._echoes(spec.key)
        if spec.type.endswith("/Image"):
            values = radar.range_doppler(echoes, self._noise(spec.key, "map"))
            return self._messages.make.image(self._messages.header(spec, stamp_ns), values, "32FC1")
        return self._messages.cloud(spec, stamp_ns, radar.targets(echoes), FIELDS)

    def _noise(self, *of: str) -> np.random.Generator:
        """Return where a sensor's noise of this step comes from, whoever asks and how often."""
        numbers = [int.from_bytes("/".join(of).encode()[-8:], "little")]
        return np.random.default_rng((self.seed, 2, self._steps, *numbers))

    def _scan(self, key: str) -> Scan:
        scan: Scan = self._once(key, lambda: self._scanners[key].scan(self.base, self._noise(key)))
        return scan

    def _echoes(self, key: str) -> Echoes:
        echoes: Echoes = self._once(key, lambda: self._radars[key].echoes(self.base, self.world, self._noise(key)))
        return echoes

    def _once(self, key: str, measure: Any) -> Any:
        """Return what was measured in this step."""
        if self._measured.get(key, (-1,))[0] != self._steps:
            self._measured[key] = self._steps, measure()
        return self._measured[key][1]

    def snapshot(self, into: Any = None) -> Any:
        """Copy what pictures are made of, in some 10 µs."""
        data = mujoco.MjData(self._model) if into is None else into[0]
        mujoco.mj_getState(self._model, self.base.data, self._state, _STATE)
        mujoco.mj_setState(self._model, data, self._state, _STATE)
        mujoco.mj_kinematics(self._model, data)
        mujoco.mj_comPos(self._model, data)
        mujoco.mj_camlight(self._model, data)
        return data, self._steps, self.seed

    def picture(self, spec: InputSpec, stamp_ns: int, snapshot: Any) -> Any:
        """Return a camera's image of a snapshot, or of the present state; all cameras are rendered at once."""
        if self._rendered is None or self._rendered[0] != stamp_ns:
            self._rendered = stamp_ns, self._render(self.snapshot() if snapshot is None else snapshot)
        image = self._rendered[1][spec.key]
        return picture(self._messages.make, spec.type, self._messages.header(spec, stamp_ns), image)

    def _render(self, snapshot: Any) -> dict[str, NDArray[np.uint8]]:
        data, steps, seed = snapshot
        if self.world.is_dark:
            noise = np.random.default_rng((seed, 3, steps))
            shapes = {key: (spec.height, spec.width, 3) for key, spec in self._cameras.items()}
            return {
                key: np.clip(noise.normal(_DARK_LEVEL, _DARK_NOISE, shape), 0, 20).astype(np.uint8)
                for key, shape in shapes.items()
            }
        if self._rig is None:  # in the thread that asks, which then owns the context
            self._rig = CameraRig(self._model, self._cameras)
        return self._rig.render(data)

    def camera_info(self, spec: InputSpec, stamp_ns: int) -> Any:
        """Return the intrinsics of the camera behind an input."""
        camera = self._cameras[spec.key]
        focal = focal_length_px(self._model, camera)
        header = self._messages.header(spec, stamp_ns)
        return camera_info(self._messages.make, header, camera.height, camera.width, focal)

    def frames(self) -> Sequence[FrameTransform]:
        """Return where the base and its sensors are."""
        return frames_of(self._contract, self._config, self.base)

    def demonstrator(self, policy: str) -> Decide:
        """Return the world's expert, who knows everything in it, or random twists."""
        if policy == "random":
            generator = np.random.default_rng((self.seed, 4))
            return lambda: generator.uniform((0.0, -self._config.drive.max_turn), (0.6, self._config.drive.max_turn))
        return lambda: np.array(self.world.expert(self.situation))

    def close(self) -> None:
        """Free the OpenGL contexts; in the thread that asked for pictures."""
        if self._rig is not None:
            self._rig.close()
