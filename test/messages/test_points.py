from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from vla_ros.contract import PointsSpec
from vla_ros.data_types import DecodeError
from vla_ros.messages.forms.points import decode_laser_scan, decode_point_cloud

DTYPE = np.dtype({"names": ["x", "ring", "y", "z"], "formats": ["<f4", "<u2", "<f8", "<f4"], "offsets": [0, 4, 8, 16]})
CODES = {"x": 7, "ring": 4, "y": 8, "z": 7}


def cloud(points: np.ndarray, **changes: Any) -> Any:
    fields = [SimpleNamespace(name=n, offset=DTYPE.fields[n][1], datatype=CODES[n], count=1) for n in DTYPE.names]
    values = {
        "height": 1,
        "width": len(points),
        "fields": fields,
        "is_bigendian": False,
        "point_step": DTYPE.itemsize,
        "row_step": DTYPE.itemsize * len(points),
        "data": points.tobytes(),
    }
    return SimpleNamespace(**(values | changes))


def points(count: int) -> np.ndarray:
    values = np.zeros(count, DTYPE)
    values["x"], values["y"], values["z"], values["ring"] = np.arange(count), 10, 20, 7
    return values


def test_fields_are_read_by_name_whatever_the_layout() -> None:
    value = decode_point_cloud(PointsSpec(3, ("z", "y", "ring", "x")), cloud(points(3)), "/lidar")
    np.testing.assert_array_equal(value, [[20, 10, 7, k] for k in range(3)])
    assert value.dtype == np.float32


def test_too_few_points_are_followed_by_nan() -> None:
    value = decode_point_cloud(PointsSpec(4), cloud(points(2)), "/lidar")
    np.testing.assert_array_equal(value[:2, 0], [0, 1])
    assert np.isnan(value[2:]).all()


def test_too_many_points_are_thinned_evenly_and_always_alike() -> None:
    value = decode_point_cloud(PointsSpec(4), cloud(points(10)), "/lidar")
    np.testing.assert_array_equal(value[:, 0], [0, 2, 5, 7])


def test_points_that_are_not_finite_are_dropped() -> None:
    values = points(4)
    values["y"][1], values["z"][2] = np.nan, np.inf
    value = decode_point_cloud(PointsSpec(4), cloud(values), "/lidar")
    np.testing.assert_array_equal(value[:2, 0], [0, 3])
    assert np.isnan(value[2:]).all()


def test_rows_of_an_organised_cloud_may_be_padded() -> None:
    values = points(6)
    row = 3 * DTYPE.itemsize
    data = values[:3].tobytes() + b"\xff" * 8 + values[3:].tobytes()
    value = decode_point_cloud(PointsSpec(6), cloud(values, height=2, width=3, row_step=row + 8, data=data), "/lidar")
    np.testing.assert_array_equal(value[:, 0], range(6))


def test_an_empty_cloud_is_all_nan() -> None:
    assert np.isnan(decode_point_cloud(PointsSpec(2), cloud(points(0)), "/lidar")).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"is_bigendian": True}, "big endian"),
        ({"data": b"123"}, "do not fit 3 bytes"),
        ({"fields": []}, "no field 'x'; it has none"),
        ({"point_step": 12}, "lies beyond points of 12 bytes"),
        ({"point_step": 2**31}, "3 points of 2147483648 bytes do not fit"),
        ({"point_step": 2**32 - 1, "width": 2**32 - 1, "height": 2**32 - 1}, "do not fit"),
        ({"width": 4}, "1 rows of 4 points"),
        ({"height": 2}, "2 rows of 3 points"),
        ({"height": 2, "row_step": 0}, "in rows of 0"),
        ({"height": 2**32 - 1, "row_step": 2**32 - 1}, "do not fit"),
    ],
)
def test_a_cloud_that_does_not_add_up_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_point_cloud(PointsSpec(2), cloud(points(3), **changes), "/lidar")


def field(name: str, offset: int, code: int = 7, count: int = 1) -> Any:
    return SimpleNamespace(name=name, offset=offset, datatype=code, count=count)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ([field("x", 0), field("y", 2), field("z", 16)], "fields 'x' and 'y' of the point cloud overlap at byte 2"),
        ([field("x", 8, 8), field("y", 8), field("z", 16)], "overlap at byte 8"),
        ([field("x", 0), field("x", 4), field("y", 8), field("z", 16)], "more than one field 'x'"),
        ([field("x", 2**32 - 2), field("y", 8), field("z", 16)], "lies beyond points of 20 bytes"),
        ([field("x", 0, 9), field("y", 8), field("z", 16)], "datatype 9 x 1, not one number"),
        ([field("x", 0, 7, 2**32 - 1), field("y", 8), field("z", 16)], "not one number"),
        ([field(f"x{k}", 0) for k in range(100_000)], "no field 'x'; it has x0, x1, .* and 99990 more"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: list[Any], sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence) as caught:
        decode_point_cloud(PointsSpec(2), cloud(points(3), fields=fields), "/lidar")
    assert len(str(caught.value)) < 500


def test_fields_that_are_not_wanted_may_overlap() -> None:
    fields = [field("x", 0), field("y", 8, 8), field("z", 16), field("rgb", 0), field("rgba", 0, 6)]
    value = decode_point_cloud(PointsSpec(3), cloud(points(3), fields=fields), "/lidar")
    np.testing.assert_array_equal(value[:, 0], range(3))


@pytest.mark.filterwarnings("error")
def test_points_that_float32_cannot_hold_are_dropped() -> None:
    values = points(3)
    values["y"][1] = 1e39
    value = decode_point_cloud(PointsSpec(3), cloud(values), "/lidar")
    np.testing.assert_array_equal(value[:2, 0], [0, 2])
    assert np.isnan(value[2]).all()


def scan(**changes: Any) -> Any:
    values = {"angle_min": 0.0, "angle_increment": np.pi / 2, "range_min": 0.5, "range_max": 10.0}
    return SimpleNamespace(**(values | {"ranges": [1.0, 2.0, 0.1, np.inf, 3.0], "intensities": []} | changes))


def test_scan_hits_become_points_and_misses_are_dropped() -> None:
    value = decode_laser_scan(PointsSpec(4, ("x", "y")), scan(), "/scan")
    np.testing.assert_allclose(value[:3], [[1, 0], [0, 2], [3, 0]], atol=1e-6)
    assert np.isnan(value[3]).all()


def test_scan_fields_that_do_not_exist_are_refused() -> None:
    with pytest.raises(DecodeError, match=r"no 'ranges'.*Did you mean 'range'"):
        decode_laser_scan(PointsSpec(2, ("ranges",)), scan(), "/scan")
    with pytest.raises(DecodeError, match="5 ranges but 0 intensities"):
        decode_laser_scan(PointsSpec(2, ("intensity",)), scan(), "/scan")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
def test_rays_that_are_not_numbers_are_misses(bad: float) -> None:
    value = decode_laser_scan(PointsSpec(2, ("x", "y")), scan(ranges=[bad, 2.0], range_max=np.inf), "/scan")
    np.testing.assert_allclose(value[0], [0, 2], atol=1e-6)
    assert np.isnan(value[1]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"angle_min": np.nan}, "5 rays go from nan"),
        ({"angle_increment": np.inf}, "to inf rad"),
        ({"angle_min": -90.0}, "beyond two turns; angles are in rad"),
        ({"angle_increment": 1.0, "ranges": [1.0] * 1000}, "to 999 rad"),
        ({"range_min": np.nan}, "between nan and 10 m"),
        ({"range_max": np.nan}, "between 0.5 and nan m"),
        ({"range_max": 0.1}, "between 0.5 and 0.1 m, which no range is"),
        ({"intensities": [1.0, 2.0]}, "5 ranges but 2 intensities"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_a_scan_that_contradicts_itself_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_laser_scan(PointsSpec(2, ("x", "y")), scan(**changes), "/scan")


def test_a_scan_without_rays_is_all_nan() -> None:
    assert np.isnan(decode_laser_scan(PointsSpec(2, ("x", "y")), scan(ranges=[]), "/scan")).all()
