"""What a radar sees as points, what it follows, and its range-Doppler map."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import MapSpec, PointsSpec
from vla_ros.data_types import ContractError, DecodeError
from vla_ros.messages import decode_input
from vla_ros.messages.forms.maps import decode_map
from vla_ros.messages.forms.radar import decode_radar_scan, decode_radar_tracks
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.messages.samples import make_example_message

NAN = math.nan


def scan(*rows: tuple[float, float, float, float, float]) -> Any:
    names = ("range", "azimuth", "elevation", "doppler_velocity", "amplitude")
    return SimpleNamespace(returns=[SimpleNamespace(**dict(zip(names, row, strict=True))) for row in rows])


def test_a_return_is_where_rep_103_says() -> None:
    form = PointsSpec(4, ("x", "y", "z", "doppler_velocity", "amplitude"))
    value = decode_radar_scan(
        form,
        scan((2.0, 0.0, 0.0, 1.5, 20.0), (2.0, math.pi / 2, 0.0, -1.5, 10.0), (2.0, 0.0, math.pi / 6, 0.0, 0.0)),
        "/radar",
    )
    expected = [[2, 0, 0, 1.5, 20], [0, 2, 0, -1.5, 10], [math.sqrt(3), 0, 1, 0, 0]]
    np.testing.assert_allclose(value[:3], expected, atol=1e-6)
    assert np.isnan(value[3]).all()


def test_returns_that_are_not_finite_are_dropped() -> None:
    value = decode_radar_scan(PointsSpec(2, ("range", "amplitude")), scan((1, 0, 0, 0, NAN), (3, 0, 0, 0, 5)), "/radar")
    np.testing.assert_array_equal(value[0], [3, 5])


@pytest.mark.parametrize(
    ("row", "sentence"),
    [((1.0, 90.0, 0.0, 0.0, 0.0), "angle of 90 rad, beyond a turn"), ((-1.0, 0.0, 0.0, 0.0, 0.0), "range of -1 m")],
)
def test_a_return_that_no_radar_has_is_refused(row: Any, sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_radar_scan(PointsSpec(2, ("x", "y")), scan((1, 0, 0, NAN, 0), row), "/radar")


def test_tracks_give_position_and_velocity() -> None:
    vector = lambda x, y, z: SimpleNamespace(x=x, y=y, z=z)
    track = SimpleNamespace(
        position=vector(1, 2, 3),
        velocity=vector(4, 5, 6),
        acceleration=vector(7, 8, 9),
        size=vector(10, 11, 12),
        classification=2,
    )
    form = PointsSpec(2, ("x", "vy", "az", "size_x", "classification"))
    value = decode_radar_tracks(form, SimpleNamespace(tracks=[track]), "/tracks")
    np.testing.assert_array_equal(value[0], [1, 5, 9, 10, 2])
    assert np.isnan(value[1]).all()
    assert np.isnan(decode_radar_tracks(form, SimpleNamespace(tracks=[]), "/tracks")).all()


@pytest.mark.parametrize("name", ["radar_msgs/msg/RadarScan", "radar_msgs/msg/RadarTracks"])
def test_bytes_become_the_same_points_in_a_bag_and_live(name: str, make_contract: Any) -> None:
    spec = make_contract(name).inputs[0]
    raw = serialize(make_example_message(spec, 1), name)
    value = decode_input(spec, deserialize(raw, name))
    assert np.isfinite(value).all(axis=-1).any()
    pytest.importorskip("radar_msgs.msg")
    from vla_ros.messages import rclpy_deserialize

    np.testing.assert_array_equal(decode_input(spec, rclpy_deserialize.deserialize(raw, name)), value)


def image(values: np.ndarray, encoding: str, **changes: Any) -> Any:
    height, width = values.shape
    step = width * values.dtype.itemsize
    fields = {"height": height, "width": width, "encoding": encoding, "is_bigendian": 0, "step": step}
    return SimpleNamespace(**{**fields, "data": values.tobytes(), **changes})


def test_a_map_keeps_its_peaks_when_it_is_made_smaller() -> None:
    values = np.full((6, 9), -90.0, np.float32)
    values[3, 7] = -3.0
    value = decode_map(MapSpec(2, 3, min=-80.0, max=0.0), image(values, "32FC1"), "/radar").reshape(2, 3)
    np.testing.assert_array_equal(value, [[-80, -80, -80], [-80, -80, -3]])


def test_a_map_may_be_cropped_or_grow_and_has_no_number_where_it_had_none() -> None:
    values = np.array([[1.0, NAN], [-math.inf, 4.0]])
    grown = decode_map(MapSpec(4, 2, min=0.0, max=3.0), image(values, "64FC1"), "/radar").reshape(4, 2)
    np.testing.assert_array_equal(grown, [[1, NAN], [1, NAN], [0, 3], [0, 3]])
    part = decode_map(MapSpec(1, 1, (1, 1, 1, 1), min=0.0, max=9.0), image(values, "64FC1"), "/radar")
    assert part.tolist() == [[4.0]]


@pytest.mark.parametrize(("encoding", "dtype"), [("16UC1", "<u2"), ("mono16", ">u2"), ("16SC1", "<i2"), ("8UC1", "u1")])
def test_integers_are_taken_as_they_are(encoding: str, dtype: str) -> None:
    values = np.arange(6, dtype=dtype).reshape(2, 3)
    sent = image(values, encoding, is_bigendian=int(dtype[0] == ">"))
    value = decode_map(MapSpec(2, 3, min=0.0, max=100.0), sent, "/radar")
    np.testing.assert_array_equal(value[:, 0], range(6))


def test_colours_are_no_map() -> None:
    with pytest.raises(DecodeError, match="encoding 'rgb8' is no image of numbers; known are 32FC1"):
        decode_map(MapSpec(1, 1, min=0.0, max=1.0), image(np.zeros((2, 3), np.uint8), "rgb8"), "/radar")


@pytest.mark.parametrize(
    ("section", "error"),
    [
        ({"map": {"min": 1.0, "max": 1.0}}, r"image.map.max must be above min 1, got 1"),
        ({"map": {"min": 0.0}}, r"image.map.max is required"),
        ({"map": {"min": 0.0, "max": 1.0}, "depth": {"min": 0.1, "max": 1.0}}, r"image.map and image.depth exclude"),
    ],
)
def test_a_map_that_is_none_is_refused(section: Any, error: str, make_contract: Any) -> None:
    key, size = "observation.radar.front", {"height": 2, "width": 2}
    with pytest.raises(ContractError, match=error):
        make_contract("sensor_msgs/msg/Image", key=key, image={**size, **section})


def test_a_map_is_a_feature_of_one_number_a_cell(make_contract: Any) -> None:
    numbers = {"height": 8, "width": 16, "map": {"min": -100.0, "max": 10.0}}
    contract = make_contract("sensor_msgs/msg/Image", key="observation.radar.front", image=numbers)
    feature = contract.features["observation.radar.front"]
    assert (feature.kind, feature.shape, feature.names) == ("points", (128, 1), ("value",))
    value = decode_input(contract.inputs[0], make_example_message(contract.inputs[0], 1))
    assert value.shape == (128, 1)
    assert (value >= -100).all()
