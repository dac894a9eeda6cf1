"""Depth images are metres where something was measured, and nothing is invented where it was not."""

import struct
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from vla_ros.contract import DepthSpec, ImageSpec
from vla_ros.data_types import ContractError, DecodeError
from vla_ros.messages import decode_input
from vla_ros.messages.forms.depth import decode_compressed_depth, decode_depth
from vla_ros.messages.forms.images import decode_image
from vla_ros.messages.message_types import deserialize, serialize
from vla_ros.messages.samples import make_example_message

IMAGE = "sensor_msgs/msg/Image"
DEPTH = {"height": 24, "width": 32, "depth": {"min": 0.1, "max": 4.0}}


def form(height: int = 2, width: int = 3, **changes: Any) -> DepthSpec:
    return DepthSpec(height, width, **{"crop": None, "min": 0.1, "max": 4.0, **changes})


def image(values: Any, encoding: str, big_endian: bool = False, padding: int = 0) -> SimpleNamespace:
    values = np.asarray(values)
    values = values.astype(values.dtype.newbyteorder(">" if big_endian else "<"))
    rows = np.ascontiguousarray(values).view(np.uint8).reshape(len(values), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    return SimpleNamespace(
        height=values.shape[0],
        width=values.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def decoded(spec: DepthSpec, message: Any) -> np.ndarray:
    value = decode_depth(spec, message, "/depth (k)")
    assert value.shape == (spec.height * spec.width, 1)
    assert value.dtype == np.float32
    return value.reshape(spec.height, spec.width)


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 6])
def test_integers_are_millimetres_and_floats_metres(big_endian: bool, padding: int) -> None:
    millimetres = np.array([[0, 1500, 99], [100, 4000, 4001]], np.uint16)
    expected = np.float32([[np.nan, 1.5, np.nan], [0.1, 4.0, np.nan]])
    np.testing.assert_allclose(decoded(form(), image(millimetres, "16UC1", big_endian, padding)), expected)
    metres = np.array([[np.nan, 1.5, np.inf], [0.1, 4.0, -1.0]], np.float32)
    expected[1, 0] = np.float32(0.1)
    np.testing.assert_allclose(decoded(form(min=0.09), image(metres, "32FC1", big_endian, padding)), expected)


def test_the_unit_of_a_camera_is_the_contract_s() -> None:
    assert decoded(form(1, 1, unit=0.0001), image(np.array([[15000]], np.uint16), "16UC1")) == np.float32(1.5)


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 9), (12, 16), (24, 32)])
def test_resizing_gives_only_distances_that_were_measured(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 4000, (9, 13)).astype(np.uint16)
    values[rng.random((9, 13)) < 0.3] = 0
    resized = decoded(form(*size), image(values, "16UC1"))
    seen = resized[~np.isnan(resized)]
    assert np.isin(seen, (values * 0.001).astype(np.float32)).all()


def test_resizing_takes_the_pixel_under_the_centre_of_the_new_one() -> None:
    values = np.arange(1, 37).reshape(6, 6).astype(np.uint16)
    np.testing.assert_allclose(
        decoded(form(2, 2, unit=0.1), image(values, "16UC1")), np.float32([[0.8, 1.1], [2.6, 2.9]])
    )


def test_a_crop_comes_before_the_size() -> None:
    values = np.arange(1, 37).reshape(6, 6).astype(np.uint16)
    cropped = decoded(form(2, 2, unit=0.1, crop=(4, 3, 2, 2)), image(values, "16UC1"))
    np.testing.assert_allclose(cropped, np.float32([[2.8, 2.9], [3.4, 3.5]]))
    with pytest.raises(DecodeError, match=r"crop \[5, 0, 2, 2\] .* goes beyond the image of 6x6 pixels"):
        decoded(form(crop=(5, 0, 2, 2)), image(values, "16UC1"))


@pytest.mark.parametrize("encoding", ["mono16", "32FC1"])  # its reading of 16UC1 is broken under new OpenCV
def test_cv_bridge_reads_the_same_distances(encoding: str) -> None:
    bridge = pytest.importorskip("cv_bridge").CvBridge()
    values = np.random.default_rng(1).integers(100, 4000, (6, 8)).astype(np.uint16)
    unit = 0.001 if encoding == "mono16" else 1.0
    message = bridge.cv2_to_imgmsg(values if encoding == "mono16" else (values * 0.001).astype(np.float32), encoding)
    theirs = bridge.imgmsg_to_cv2(message, "passthrough") * unit
    np.testing.assert_allclose(decoded(form(6, 8), message), theirs, rtol=1e-6)


def compressed(encoding: str, pixels: np.ndarray, quantum: float = 0.0, offset: float = 0.0) -> SimpleNamespace:
    data = struct.pack("<iff", 0, quantum, offset) + cv2.imencode(".png", pixels)[1].tobytes()
    return SimpleNamespace(format=f"{encoding}; compressedDepth png", data=data)


def test_compressed_depth_is_the_depth_that_was_compressed() -> None:
    millimetres = np.array([[0, 1500, 99], [100, 4000, 4001]], np.uint16)
    value = decode_compressed_depth(form(), compressed("16UC1", millimetres), "p")
    np.testing.assert_allclose(value.reshape(2, 3), decoded(form(), image(millimetres, "16UC1")))
    # compressed_depth_image_transport: inverse depth, quantum / depth + offset
    metres = np.array([[0.5, 1.0, 2.0], [3.0, 3.9, 0.25]])
    pixels = np.rint(2000.0 / metres + 3.0).astype(np.uint16)
    pixels[0, 0] = 0
    value = decode_compressed_depth(form(), compressed("32FC1", pixels, 2000.0, 3.0), "p").reshape(2, 3)
    assert np.isnan(value[0, 0])
    np.testing.assert_allclose(value.reshape(-1)[1:], metres.reshape(-1)[1:], rtol=2e-3)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"format": "jpeg"}, "is no depth as PNG"),
        ({"format": "16UC1; compressedDepth rvl"}, "is no depth as PNG"),
        ({"data": b"short"}, "do not decode"),
        ({"data": bytes(12) + b"\x89PNG\r\n\x1a\n"}, "do not decode"),
        ({"data": bytes(12) + cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes()}, "not 16 bit"),
        ({"data": bytes(12) + cv2.imencode(".jpg", np.zeros((8, 8), np.uint8))[1].tobytes()}, "no depth that is read"),
    ],
)
def test_compressed_bytes_that_are_no_depth_are_refused(change: dict[str, Any], error: str) -> None:
    message = compressed("16UC1", np.ones((4, 4), np.uint16))
    with pytest.raises(DecodeError, match=error):
        decode_compressed_depth(form(), SimpleNamespace(**{**vars(message), **change}), "/depth (k)")


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (image(np.ones((2, 3, 3), np.uint8).reshape(2, 9), "rgb8"), "encoding 'rgb8' is no depth"),
        (SimpleNamespace(**{**vars(image(np.ones((2, 3), np.uint16), "16UC1")), "height": 3}), "needs 3 rows"),
    ],
)
def test_an_image_that_is_no_depth_is_refused(message: Any, error: str) -> None:
    with pytest.raises(DecodeError, match=error):
        decoded(form(), message)


def test_a_colour_camera_refuses_depth() -> None:
    with pytest.raises(DecodeError, match="is depth or raw numbers, not colour"):
        decode_image(ImageSpec(2, 3), image(np.ones((2, 3), np.uint16), "16UC1"), "p")


def test_a_depth_camera_of_a_contract_is_a_feature_that_datasets_store(make_contract: Any) -> None:
    contract = make_contract(IMAGE, key="observation.images.front_depth", image=DEPTH)
    (spec,) = contract.inputs
    feature = contract.features[spec.key]
    assert (feature.kind, feature.shape, feature.names) == ("points", (24 * 32, 1), ("depth",))
    message = make_example_message(spec, 1)
    value = decode_input(spec, message)
    np.testing.assert_array_equal(decode_input(spec, deserialize(serialize(message, IMAGE), IMAGE)), value)
    assert value.shape == feature.shape
    assert 0 < np.isnan(value).sum() < value.size


@pytest.mark.parametrize(
    ("key", "depth", "error"),
    [
        ("observation.images.front", {"min": 0.1, "max": 4.0}, r"key 'observation.images.front' is no key of .*_depth"),
        ("observation.images.front_depth", {"min": 4.0, "max": 0.1}, r"depth.max must be above min 4, got 0.1"),
        ("observation.images.front_depth", {"min": 0.1}, r"depth.max is required"),
        ("observation.images.front_depth", {"min": 0.1, "max": 1.0, "units": 1}, r"depth.units is not a field"),
    ],
)
def test_a_wrong_depth_is_refused(key: str, depth: dict[str, Any], error: str, make_contract: Any) -> None:
    with pytest.raises(ContractError, match=error):
        make_contract(IMAGE, key=key, image={"height": 2, "width": 2, "depth": depth})
