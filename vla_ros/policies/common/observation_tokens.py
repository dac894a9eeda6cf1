"""The token sequence of an observation: the one place where images, text, proprioception and other sensors meet.

An architecture names its own parts; `TokenAssembler` adds those of the sensors that the config names encoders for, and
lets a memory of the episode read and write. Without either it adds nothing and has no weights.

Axis legend: B batch, T n_obs_steps, N tokens of one frame or part, L tokens of the sequence, D width.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

import torch
from torch import Tensor, nn

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError, nearest_name
from vla_ros.networks.fusion.absent import AbsentTokens, drop_modalities
from vla_ros.networks.sensors.sensor_encoder import SensorEncoder, SensorTokens
from vla_ros.policies.base import Batch, PolicyConfig, PolicyState, image_shape
from vla_ros.registry import ENCODERS, MEMORIES, POOLINGS, SENSORS, MemoryName, SensorName, build_part
from vla_ros.schema import About, Checked, Only

DEFAULT_ENCODERS = {"points": "pillars", "scan": "range_image", "imu": "lstm", "radar": "radar_points"}
"""The encoder of a sensor that the recipe says nothing of, by the word after ``observation.`` in its key."""
RASTERS = (("depth",), ("value",))
"""Names of the features that are images of distances, or of other numbers; see `image.depth` and `image.map`."""
SHARED = "shared"
MEMORY = "memory/"
"""What the names of a memory's tensors in the policy's state begin with."""


@dataclass(frozen=True, kw_only=True)
class SensorOptions(Checked):
    """How one input becomes tokens."""

    encoder: Annotated[SensorName, About("Name in `vla_ros.registry.SENSORS`.")]
    options: Annotated[dict[str, Any], About("The encoder's own options.")] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MemoryOptions(Checked):
    """What remembers an episode."""

    name: Annotated[MemoryName, About("Name in `vla_ros.registry.MEMORIES`.")]
    options: Annotated[dict[str, Any], About("The memory's own options.")] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SensorsConfig(PolicyConfig):
    """Options of policies that see sensors besides images and proprioception."""

    sensors: Annotated[
        dict[str, SensorOptions],
        About(
            "Input → the encoder that makes tokens of it. A cloud, scan, window or radar that is left out gets the "
            "default of its kind; a vector or an image that is named here is read as a sensor too."
        ),
    ] = field(default_factory=dict)
    optional: Annotated[
        tuple[str, ...],
        About(
            "Sensors that an observation may lack: a learned token then stands in for each. Empty: none may be missing."
        ),
    ] = ()
    modality_dropout: Annotated[
        float,
        About(
            "Probability with which training hides each optional sensor of a sample.",
            at_least=0,
            below=1,
            only=Only("with optional", lambda config: config.optional),
        ),
    ] = 0.2

    def __post_init__(self) -> None:
        for key in self.sensors:
            if key not in self.inputs:
                known, hint = ", ".join(self.inputs), nearest_name(key, self.inputs)
                raise ConfigError(f"sensors: '{key}' is not among the inputs: {known}.{hint}")
        for key in self.optional:
            if key not in self.encoded_inputs:
                known, hint = ", ".join(self.encoded_inputs) or "(none)", nearest_name(key, self.encoded_inputs)
                raise ConfigError(f"optional: '{key}' is not among the sensors: {known}.{hint}")
        super().__post_init__()

    @property
    def encoded_inputs(self) -> tuple[str, ...]:
        """Inputs that a sensor encoder turns into tokens, in order."""
        return tuple(
            key for key, spec in self.inputs.items() if spec.kind in ("points", "window") or key in self.sensors
        )

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Sensors that an observation may lack, and what else the architecture can do without."""
        return (*super().optional_inputs, *self.optional)

    def sensor(self, key: str) -> SensorOptions:
        """Return how a sensor becomes tokens: as `sensors` says, or by the default encoder of its kind.

        Raises:
            ConfigError: Its kind has no default.
        """
        if key in self.sensors:
            return self.sensors[key]
        if self.inputs[key].names in RASTERS:
            raise ConfigError(
                f"sensors: '{key}' is an image of one number a pixel and needs its encoder and height: "
                "{encoder: raster, options: {rows: …}}, or range_doppler for a radar's map."
            )
        word = key.split(".")[1] if key.count(".") > 1 else ""
        by_kind = {"points": "pillars", "window": "lstm"}
        return SensorOptions(encoder=DEFAULT_ENCODERS.get(word, by_kind.get(self.inputs[key].kind, "linear")))


@dataclass(frozen=True, kw_only=True)
class TokensConfig(SensorsConfig):
    """Options of policies that read a sequence of tokens."""

    memory: Annotated[
        MemoryOptions | None, About("What remembers the tokens of an episode and lets later ones read them, or null.")
    ] = None


@dataclass(frozen=True)
class TokenPart:
    """Some consecutive tokens.

    Attributes:
        name: What they stand for.
        tokens_BND: float [B, N, D].
        valid_BN: bool [B, N], False for tokens that stand for nothing; None: all are valid.
    """

    name: str
    tokens_BND: Tensor
    valid_BN: Tensor | None = None

    @property
    def mask_BN(self) -> Tensor:
        """Which are valid, bool [B, N]."""
        if self.valid_BN is not None:
            return self.valid_BN
        return torch.ones(self.tokens_BND.shape[:2], dtype=torch.bool, device=self.tokens_BND.device)


@dataclass(frozen=True)
class ObservationTokens:
    """The sequence of an observation.

    Attributes:
        parts: In order.
    """

    parts: tuple[TokenPart, ...]

    @property
    def tokens_BLD(self) -> Tensor:
        """All tokens, float [B, L, D]."""
        return torch.cat([part.tokens_BND for part in self.parts], dim=1)

    @property
    def valid_BL(self) -> Tensor | None:
        """Which may be attended to, bool [B, L]; None where no part says that any may not."""
        if all(part.valid_BN is None for part in self.parts):
            return None
        return torch.cat([part.mask_BN for part in self.parts], dim=1)

    @property
    def segments(self) -> tuple[tuple[str, int], ...]:
        """Name and number of tokens of each part."""
        return tuple((part.name, part.tokens_BND.shape[1]) for part in self.parts)

    def with_tokens(self, tokens_BLD: Tensor) -> "ObservationTokens":
        """Return the same parts with other tokens, float [B, L, D]."""
        pieces = torch.split_with_sizes(tokens_BLD, [count for _, count in self.segments], dim=1)
        return ObservationTokens(
            tuple(replace(part, tokens_BND=piece) for part, piece in zip(self.parts, pieces, strict=True))
        )


class TokenAssembler(nn.Module):
    """Adds to an architecture's own tokens those of further sensors, and what a memory has to say.

    Each sensor has a learned vector, zero at first, added to its tokens.

    Args:
        config: Names the sensors' encoders and the memory.
        width: D.

    Attributes:
        tokens_per_frame: Sensor tokens of one frame.
        adds_nothing: Whether there are neither sensors nor a memory.

    Raises:
        ConfigError: An encoder cannot read its input, or the memory takes no such options.
    """

    def __init__(self, config: TokensConfig, width: int) -> None:
        super().__init__()
        self.keys = config.encoded_inputs
        self.steps = config.n_obs_steps
        self.optional, self.modality_dropout = config.optional, config.modality_dropout
        self.shapes = {key: sensor_shape(config.inputs[key]) for key in self.keys}
        encoders = list(build_sensor_encoders(config, width).values())
        self.encoders = nn.ModuleList(encoders)
        self.sensor_embedding_SD = nn.Parameter(torch.zeros(len(encoders), width)) if encoders else None
        self.absent = AbsentTokens(self.optional, width) if self.optional else None
        # an optional sensor has one token more, which stands in for it
        self.tokens_per_frame = sum(encoder.n_tokens for encoder in encoders) + len(self.optional)
        self.memory = _memory(config.memory, width) if config.memory is not None else None
        self.adds_nothing = not encoders and self.memory is None

    def frame_parts(self, observation: Batch) -> list[TokenPart]:
        """Return the tokens of each sensor in every frame, float [B, T, N, D], and their validity, bool [B, T, N].

        Raises:
            ObservationError: An encoder says other than it promised.
        """
        said: dict[str, SensorTokens] = {}
        batch, frames = 0, 0
        for key, encoder in zip(self.keys, self.encoders, strict=True):
            values = self._values(observation, key)
            batch, frames = values.shape[:2]
            tokens, valid = encoder(values.flatten(0, 1))
            wanted = (values.shape[0] * values.shape[1], encoder.n_tokens)
            if tuple(valid.shape) != wanted or tuple(tokens.shape[:2]) != wanted:
                raise ObservationError(
                    f"'{key}': its encoder gives tokens {list(tokens.shape)} and validity {list(valid.shape)}; "
                    f"expected [{wanted[0]}, {wanted[1]}, D] and [{wanted[0]}, {wanted[1]}]."
                )
            # what stands for nothing may hold anything, even NaN, which an attention weight of zero would not stop
            said[key] = SensorTokens(tokens.masked_fill(~valid.bool()[..., None], 0.0), valid.bool())
        if self.absent is not None:
            if self.training:
                said = drop_modalities(said, self.optional, self.modality_dropout)
            said = self.absent(said)
        is_pad_BT = observation.get("is_pad")
        parts = []
        for index, (key, (tokens, valid)) in enumerate(said.items()):
            tokens_BTND = (
                tokens.reshape(batch, frames, *tokens.shape[1:]) + cast("Tensor", self.sensor_embedding_SD)[index]
            )
            valid_BTN = valid.reshape(batch, frames, -1)
            if is_pad_BT is not None:
                valid_BTN = valid_BTN & ~is_pad_BT.bool()[..., None]
            parts.append(TokenPart(key, tokens_BTND.masked_fill(~valid_BTN[..., None], 0.0), valid_BTN))
        return parts

    def _values(self, observation: Batch, key: str) -> Tensor:
        """Return a sensor's values, [B, T, ...]; NaN where an optional one is missing."""
        if key in observation:
            values: Tensor = observation[key]
            return values
        like = next(value for name, value in observation.items() if isinstance(value, Tensor) and "is_" not in name)
        shape = (len(like), self.steps, *self.shapes[key])
        return torch.full(shape, torch.nan, device=like.device)

    def forward(
        self, own: Sequence[TokenPart], observation: Batch, state: PolicyState | None = None
    ) -> tuple[ObservationTokens, dict[str, Tensor] | None]:
        """Assemble the sequence.

        Args:
            own: The architecture's parts, in order; those of the sensors follow, frame by frame, sensor by sensor.
            observation: As `vla_ros.policies.base` describes it.
            state: Of the episode; None at its start.

        Returns:
            The sequence, and what the memory adds to the policy's state; None without a memory.
        """
        further = [
            TokenPart(part.name, part.tokens_BND.flatten(1, 2), part.mask_BN.flatten(1, 2))
            for part in self.frame_parts(observation)
        ]
        return self.remember(ObservationTokens((*own, *further)), state)

    def remember(
        self, tokens: ObservationTokens, state: PolicyState | None
    ) -> tuple[ObservationTokens, dict[str, Tensor] | None]:
        """Let the memory read and write; without one, the tokens are returned as they are."""
        if self.memory is None:
            return tokens, None
        before = {name.removeprefix(MEMORY): v for name, v in (state or {}).items() if name.startswith(MEMORY)}
        mask_BL = torch.cat([part.mask_BN for part in tokens.parts], dim=1)
        read_BLD, after = self.memory(tokens.tokens_BLD, mask_BL, before or None)
        return tokens.with_tokens(read_BLD), {f"{MEMORY}{name}": value for name, value in after.items()}


class CameraEncoders(nn.ModuleDict):
    """The encoders of a policy's cameras.

    Args:
        config: Names the cameras.
        share: One encoder for all.
        build: Makes one for images of (height, width) pixels.
    """

    def __init__(self, config: PolicyConfig, share: bool, build: Callable[[tuple[int, int]], nn.Module]) -> None:
        super().__init__()
        self._share = share
        for key in config.image_keys:
            if self._name(key) not in self:
                height, width, _ = config.inputs[key].shape
                self[self._name(key)] = build((height, width))

    @classmethod
    def of_backbones(
        cls, config: PolicyConfig, share: bool, backbone: str, pooling: str | None = None
    ) -> "CameraEncoders":
        """Build encoders that are backbones, [N, 3, h, w] → maps, with a pooling → features [N, F].

        Raises:
            ConfigError: A part has no such name, cannot be imported, or cannot take the images.
        """

        def build(size: tuple[int, int]) -> nn.Module:
            maps: nn.Module = build_part(ENCODERS, backbone, size, sizes={"map_shape": 3})
            if pooling is None:
                return maps
            pooled = build_part(POOLINGS, pooling, maps.map_shape, sizes={"feature_dim": 1})
            both = nn.Sequential(OrderedDict(backbone=maps, pooling=pooled))
            both.feature_dim = pooled.feature_dim
            return both

        return cls(config, share, build)

    def load_backbones(self, path: str | None) -> None:
        """Read a file of pretrained weights into every backbone; None reads none.

        Raises:
            ConfigError: The file is missing, unreadable or not this backbone's.
        """
        for encoder in self.each() if path is not None else ():
            backbone: Any = encoder.backbone if isinstance(encoder, nn.Sequential) else encoder
            backbone.load_weights(path)

    def of(self, key: str) -> Any:
        """Return the encoder of a camera."""
        return self[self._name(key)]

    def encode(self, key: str, images_BT3hw: Tensor) -> Tensor:
        """Return what a camera's encoder makes of every frame, [B, T, ...]."""
        encoded: Tensor = self.of(key)(images_BT3hw.flatten(0, 1))
        return encoded.view(*images_BT3hw.shape[:2], *encoded.shape[1:])

    def each(self) -> Iterator[nn.Module]:
        """Iterate over the encoders, a shared one once."""
        return iter(self.values())

    def _name(self, key: str) -> str:
        # a module's name may not hold dots, and a feature key holds no slash: two keys never share a name
        return SHARED if self._share else key.replace(".", "/")


def check_shared_size(config: PolicyConfig, share: bool) -> None:
    """Refuse one encoder for cameras of different image sizes.

    Raises:
        ConfigError: Names the sizes.
    """
    sizes = {config.inputs[key].shape for key in config.image_keys}
    if share and len(sizes) > 1:
        raise ConfigError(f"share_encoder needs cameras of one image size, got {sorted(sizes)}.")


def joined_state(*parts: Mapping[str, Tensor] | None) -> dict[str, Tensor] | None:
    """Return the states of several parts of a policy as one; None where none has any."""
    given = [part for part in parts if part is not None]
    return {name: value for part in given for name, value in part.items()} if given else None


def build_sensor_encoders(config: SensorsConfig, width: int) -> dict[str, SensorEncoder]:
    """Return an encoder for each of a policy's sensors, by feature key.

    Args:
        config: Names the sensors and their encoders.
        width: D of their tokens.

    Raises:
        ConfigError: One cannot be built; names the sensor.
    """
    encoders: dict[str, SensorEncoder] = {}
    for key in config.encoded_inputs:
        chosen, shape = config.sensor(key), sensor_shape(config.inputs[key])
        try:
            encoders[key] = build_part(SENSORS, chosen.encoder, shape, width, sizes={"n_tokens": 1}, **chosen.options)
        except ConfigError as reason:
            raise ConfigError(f"sensors.{key}: {reason}") from reason
    return encoders


def sensor_shape(spec: FeatureSpec) -> tuple[int, ...]:
    """Return the shape in which a policy gets one frame of a sensor's feature."""
    return image_shape(spec) if spec.kind == "image" else spec.shape


def _memory(chosen: MemoryOptions, width: int) -> nn.Module:
    try:
        built: nn.Module = build_part(MEMORIES, chosen.name, width, **chosen.options)
    except ConfigError as reason:
        raise ConfigError(f"memory: {reason}") from reason
    return built
