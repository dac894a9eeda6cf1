"""Options of the multi-sensor policy, checked when built."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from vla_ros.data_types import ConfigError
from vla_ros.policies.common.action_objective import REGRESSED, ActionObjectiveConfig
from vla_ros.policies.common.observation_tokens import SensorsConfig, check_shared_size
from vla_ros.registry import EncoderName, FusionName, ObjectiveName
from vla_ros.schema import About, Checked, Only


@dataclass(frozen=True, kw_only=True)
class BevOptions(Checked):
    """The grid of the bird's-eye view, in the robot's frame (x ahead, y left)."""

    x_range: Annotated[tuple[float, float], About("Lowest and highest x.", "m")] = (-4.0, 4.0)
    y_range: Annotated[tuple[float, float], About("Lowest and highest y.", "m")] = (-4.0, 4.0)
    cell: Annotated[float, About("Side of a cell.", "m", above=0)] = 0.25
    heights: Annotated[tuple[float, ...], About("z at which a cell looks into the cameras.", "m")] = (0.0, 0.3)
    tokens: Annotated[tuple[int, int], About("Tokens along x and along y.", at_least=1)] = (8, 8)

    @property
    def cells(self) -> tuple[int, int]:
        """(X, Y)."""
        return tuple(  # type: ignore[return-value]  # two
            max(round((high - low) / self.cell), 1) for low, high in (self.x_range, self.y_range)
        )


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions(Checked):
    """A camera's mounting, and its calibration after rectification where the feature has none."""

    rotation: Annotated[
        tuple[float, float, float, float],
        About("Quaternion x, y, z, w that turns the optical frame (x right, y down, z ahead) into the robot's."),
    ]
    translation: Annotated[tuple[float, float, float], About("Of the camera in the robot's frame.", "m")]
    intrinsics: Annotated[
        tuple[float, float, float, float] | None,
        About("fx, fy, cx, cy of the image as the policy gets it; null: those of the contract's CameraInfo.", "pixels"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(Checked):
    """A memory buffer (`vla_ros.networks.temporal.MemoryBuffer`)."""

    capacity: Annotated[int, About("Slots.", at_least=2, at_most=1024)] = 16
    period_s: Annotated[float, About("Time between two writes.", "s", above=0)] = 0.5
    overflow: Annotated[
        Literal["merge", "fifo"],
        About("At capacity, `merge` the two most similar neighbours, or drop the oldest (`fifo`)."),
    ] = "merge"
    backprop_ticks: Annotated[
        int | None,
        About("Frames over which gradients reach back into the memory; null: all that a window holds.", at_least=1),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MultiSensorConfig(SensorsConfig, ActionObjectiveConfig):
    """Options of `MultiSensorPolicy`."""

    architecture: ClassVar[str] = "multi_sensor"
    text_kinds: ClassVar[tuple[str, ...]] = ("characters", "tokenizer", "sentence_embedding", "encoder")

    width: Annotated[int, About("D, of every token.", at_least=1)] = 256
    n_heads: Annotated[int, About("Attention heads.", at_least=1)] = 8
    backbone: Annotated[EncoderName, About("Of the cameras; a name in `vla_ros.registry.ENCODERS`.")] = "cnn_coarse"
    share_encoder: Annotated[
        bool, About("One backbone for all cameras instead of one each; they must then have one image size.")
    ] = True
    bev: Annotated[
        BevOptions | None,
        About("Lay the cameras' features on a bird's-eye view; null: their maps become tokens as they are."),
    ] = None
    calibration: Annotated[
        dict[str, CalibrationOptions],
        About(
            "Mounting of each camera, by feature key.",
            only=Only("with bev", lambda config: config.bev is not None),
        ),
    ] = field(default_factory=dict)
    fusion: Annotated[
        FusionName,
        About(
            "Name in `vla_ros.registry.FUSIONS`: who reads whom. `concatenation` is the baseline in which nobody does."
        ),
    ] = "cross_modal"
    n_fusion_layers: Annotated[int, About("Layers of the fusion, of each stage.", at_least=1)] = 2
    scene: Annotated[
        tuple[str, ...],
        About(
            "Sensors that the first stage makes one scene of.",
            only=Only("with fusion 'hierarchical'", lambda config: config.fusion == "hierarchical"),
        ),
    ] = ()
    n_queries: Annotated[int, About("Learned queries that read the fused tokens.", at_least=1)] = 4
    temporal: Annotated[
        Literal["none", "gru", "history"],
        About(
            "What is known of earlier frames. `none`: the newest alone is seen. `gru`: a recurrent state. `history`: a "
            "causal transformer over `n_obs_steps` observations and the actions between them."
        ),
    ] = "none"
    memory: Annotated[MemoryOptions | None, About("A memory buffer, read before the head; null: none.")] = None
    frame_period_s: Annotated[
        float,
        About(
            "Time between two observations, for the memory's clock: 1 / fps of the dataset.",
            "s",
            above=0,
            only=Only("with memory", lambda config: config.memory is not None),
        ),
    ] = 0.1
    head: Annotated[
        Literal["chunk", "trajectory"],
        About(
            "`chunk`: all steps by one MLP. `trajectory`: waypoints (x, y, yaw) of several modes with probabilities."
        ),
    ] = "chunk"
    hidden_dims: Annotated[tuple[int, ...], About("Widths of the head's hidden layers.", at_least=1)] = (256,)
    n_modes: Annotated[
        int,
        About(
            "M, ways to go.",
            at_least=1,
            at_most=64,
            only=Only("with head 'trajectory'", lambda c: c.head == "trajectory"),
        ),
    ] = 3
    tanh: Annotated[
        bool,
        About("Bound predictions to (−1, 1); the actions must then be normalised to that range.", only=REGRESSED),
    ] = False
    objective: Annotated[
        ObjectiveName,
        About(
            "Error of the chunk's regression, or `cross_entropy` over bins.",
            only=Only("with head 'chunk'", lambda config: config.head == "chunk"),
        ),
    ] = "smooth_l1"
    magnitude_weighting: Annotated[bool, About("Multiply each step's loss by 1 + 2‖a‖ of its target.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shared_size(self, self.share_encoder)
        if self.temporal == "none" and self.memory is None and self.n_obs_steps != 1:
            raise ConfigError(
                f"n_obs_steps={self.n_obs_steps}, but without memory only the newest frame is seen; set temporal or "
                "memory, or n_obs_steps to 1."
            )
        if self.head == "trajectory":
            self._check_trajectory()
        if self.temporal == "history" and self.memory is not None:
            raise ConfigError("temporal 'history' and memory are two answers to one question; choose one.")
        if self.bev is not None:
            self._check_calibration()

    def _check_trajectory(self) -> None:
        if self.action_dim != 3:
            raise ConfigError(f"head 'trajectory' predicts x, y, yaw; this action has {', '.join(self.action.names)}.")
        if self.tanh or self.coordinates != "cartesian" or self.magnitude_weighting:
            raise ConfigError(
                "head 'trajectory' regresses waypoints as they are; remove tanh, coordinates, magnitude_weighting."
            )

    def _check_calibration(self) -> None:
        if not self.image_keys:
            raise ConfigError("bev needs cameras, and no input is an image.")
        missing = [key for key in self.image_keys if key not in self.calibration]
        if missing:
            raise ConfigError(f"bev needs the calibration of every camera; missing: {', '.join(missing)}.")
        for key in self.image_keys:
            self.intrinsics(key)

    def intrinsics(self, key: str) -> tuple[float, float, float, float]:
        """Return fx, fy, cx, cy of a camera, in pixels of the policy's image.

        Raises:
            ConfigError: Neither the calibration nor the feature has them, or they are of a distorted image.
        """
        given, info = self.calibration[key].intrinsics, self.inputs[key].camera_info
        if given is not None:
            return given
        if info is None:
            raise ConfigError(
                f"calibration.{key}: give its intrinsics, or image.info of this camera in the contract: the feature "
                "has no CameraInfo."
            )
        if any(info.get("d", ())):
            raise ConfigError(
                f"calibration.{key}: the camera's images are distorted (CameraInfo.d); rectify them, or give the "
                "intrinsics of a pinhole camera that is near enough."
            )
        k = info["k"]
        return float(k[0]), float(k[4]), float(k[2]), float(k[5])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of what is fused, in order: ``vision``, the sensors' keys, ``state``, ``instruction``."""
        return (
            *(("vision",) if self.image_keys else ()),
            *self.encoded_inputs,
            *(("state",) if self.vector_keys else ()),
            *(("instruction",) if self.text is not None else ()),
        )

    @property
    def trains_every_frame(self) -> bool:
        """Whether every frame of a window is predicted from."""
        return self.temporal == "gru" or self.memory is not None

    @property
    def needs_past_action(self) -> bool:
        """Whether training needs the actions between the frames."""
        return self.n_obs_steps > 1

    @property
    def bounded_actions(self) -> bool:
        """Whether predictions lie in [−1, 1]."""
        return self.head == "chunk" and self.action_objective.bounded

    @property
    def loss_summary(self) -> str:
        """What training minimises."""
        if self.head == "trajectory":
            return "smooth L1 of the nearest mode's waypoints + cross-entropy of the modes"
        return self.action_objective.summary
