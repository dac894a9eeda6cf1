"""LiDAR, radar, IMU, wrench and effort of an observation → tokens: their encoders, and which sensors may be missing.

Axis legend: D width.
"""

from dataclasses import dataclass, field
from typing import Annotated

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.networks.sensors import SensorEncoder, build_sensor_encoder
from vla_ros.policies.base import PolicyConfig, image_shape
from vla_ros.policies.common.observation_tokens import SensorOptions
from vla_ros.schema import About, Only

# the encoder that a key's sensor gets when the recipe names none, by the word after "observation."
RASTERS = (("depth",), ("value",))
"""Names of the features that are images of distances, or of other numbers; see `image.depth` and `image.map`."""

DEFAULT_ENCODERS = {"points": "pillars", "scan": "range_image", "imu": "lstm", "radar": "radar_points"}


@dataclass(frozen=True, kw_only=True)
class SensorsConfig(PolicyConfig):
    """Options of policies that see sensors besides images and proprioception."""

    sensors: Annotated[
        dict[str, SensorOptions],
        About(
            "How sensors become tokens, by feature key. A cloud, scan, window or radar that is left out gets the "
            "default encoder of its kind; a vector or an image that is named here is read as a sensor too."
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
        super().__post_init__()
        for name, keys in (("sensors", tuple(self.sensors)), ("optional", self.optional)):
            known = tuple(self.inputs) if name == "sensors" else self.sensor_keys
            for key in keys:
                if key not in known:
                    hint = nearest_name(key, known)
                    raise ConfigError(f"{name}: '{key}' is not one of {', '.join(known) or '(no sensor)'}.{hint}")

    @property
    def sensor_keys(self) -> tuple[str, ...]:
        """Keys of the sensors, in order."""
        return tuple(
            key for key, spec in self.inputs.items() if spec.kind in ("points", "window") or key in self.sensors
        )

    @property
    def encoded_inputs(self) -> tuple[str, ...]:
        """Inputs that a sensor encoder turns into tokens."""
        return self.sensor_keys

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Sensors that an observation may lack."""
        return (*super().optional_inputs, *self.optional)

    def sensor(self, key: str) -> SensorOptions:
        """Return how a sensor becomes tokens.

        Raises:
            ConfigError: It has no default; names those that there are.
        """
        if key in self.sensors:
            return self.sensors[key]
        if self.inputs[key].names in RASTERS:
            raise ConfigError(
                f"sensors: '{key}' is an image of one number a pixel and needs its encoder and height: "
                "{encoder: raster, options: {rows: …}}, or range_doppler for a radar's map."
            )
        kind = key.split(".")[1] if key.count(".") > 1 else ""
        name = DEFAULT_ENCODERS.get(kind, {"points": "pillars", "window": "lstm"}[self.inputs[key].kind])
        return SensorOptions(encoder=name)


def build_sensor_encoders(config: SensorsConfig, width: int) -> dict[str, SensorEncoder]:
    """Return an encoder for each of a policy's sensors, by feature key.

    Args:
        config: Names the sensors and their encoders.
        width: D of their tokens.

    Raises:
        ConfigError: One cannot be built; names the sensor.
    """
    encoders = {}
    for key in config.sensor_keys:
        chosen = config.sensor(key)
        try:
            encoders[key] = build_sensor_encoder(
                chosen.encoder, sensor_shape(config.inputs[key]), width, **chosen.options
            )
        except ConfigError as reason:
            raise ConfigError(f"sensors.{key}: {reason}") from reason
    return encoders


def sensor_shape(spec: FeatureSpec) -> tuple[int, ...]:
    """Return the shape in which a policy gets one frame of a sensor's feature."""
    return image_shape(spec) if spec.kind == "image" else spec.shape
