"""radar_msgs: what a radar saw, and what it follows, as points."""

from typing import Any

import numpy as np

from vla_ros.contract import InputSpec, PointsSpec
from vla_ros.contract.types import AsInput, MessageType, SensorKey
from vla_ros.data_types import Array
from vla_ros.messages import samples
from vla_ros.messages.forms.radar import SCAN_FIELDS, TRACK_FIELDS, decode_radar_scan, decode_radar_tracks
from vla_ros.messages.samples import Rng

_KEYS = (SensorKey("observation.radar.<radar>"),)


def _form(spec: InputSpec) -> PointsSpec:
    if spec.points is None:
        raise ValueError(f"{spec.key}: a {spec.type} needs its form; contracts from `parse_contract` have it")
    return spec.points


def _scan(spec: InputSpec, message: Any, place: str) -> Array:
    return decode_radar_scan(_form(spec), message, place)


def _scan_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    low, high = [0.2, -1.0, -0.2, -20.0, -30.0], [100.0, 1.0, 0.2, 20.0, 40.0]
    rows = rng.uniform(low, high, (32, 5)).astype(np.float32).tolist()
    returns = [samples.new("radar_msgs/msg/RadarReturn", *row) for row in rows]
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), returns)


def _tracks(spec: InputSpec, message: Any, place: str) -> Array:
    return decode_radar_tracks(_form(spec), message, place)


def _tracks_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    tracks = [_track(rng) for _ in range(5)]
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), tracks)


def _track(rng: Rng) -> Any:
    uuid = samples.new("unique_identifier_msgs/msg/UUID", rng.integers(0, 256, 16, dtype=np.uint8))
    position = samples.new("geometry_msgs/msg/Point", *rng.normal(size=3).tolist())
    vectors = [samples.vector3(rng) for _ in range(3)]
    return samples.new(
        "radar_msgs/msg/RadarTrack", uuid, position, *vectors, 2, *(np.zeros(6, np.float32) for _ in range(4))
    )


ROWS = (
    MessageType(
        "radar_msgs/msg/RadarScan",
        "The returns of a radar: where they are, m, how fast, m/s, and how strong, dB.",
        as_input=AsInput(
            "points",
            _scan,
            _scan_sample,
            SCAN_FIELDS,
            ("x", "y", "z", "doppler_velocity", "amplitude"),
            keys=_KEYS,
        ),
    ),
    MessageType(
        "radar_msgs/msg/RadarTracks",
        "The objects that a radar follows, m and m/s.",
        as_input=AsInput("points", _tracks, _tracks_sample, TRACK_FIELDS, ("x", "y", "vx", "vy"), keys=_KEYS),
    ),
)
