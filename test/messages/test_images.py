from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from vla_ros.contract import ImageSpec
from vla_ros.data_types import DecodeError
from vla_ros.messages.forms.images import decode_compressed_image, decode_image

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
WHOLE = ImageSpec(6, 8)


def message(
    pixels: np.ndarray, encoding: str, padding: int = 0, *, width: int = 8, height: int = 6, **more: Any
) -> Any:
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(pixels.shape[0], -1)
    data = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    fields = {"height": height, "width": width, "encoding": encoding, "step": data.shape[1], "is_bigendian": 0}
    return SimpleNamespace(**(fields | {"data": data.tobytes()} | more))


def decode(sent: Any, form: ImageSpec = WHOLE) -> np.ndarray:
    return decode_image(form, sent, "/camera")


def with_alpha(pixels: np.ndarray) -> np.ndarray:
    return np.concatenate([pixels, np.full((6, 8, 1), 9, np.uint8)], axis=-1)


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("encoding", "pixels"),
    [
        ("rgb8", RGB),
        ("bgr8", RGB[..., ::-1]),
        ("rgba8", with_alpha(RGB)),
        ("bgra8", with_alpha(RGB[..., ::-1])),
        ("8UC3", RGB[..., ::-1]),
    ],
)
def test_colour_encodings_become_rgb_whatever_the_row_padding(encoding: str, pixels: np.ndarray, padding: int) -> None:
    np.testing.assert_array_equal(decode(message(pixels, encoding, padding)), RGB)


def test_the_last_row_may_lack_its_padding() -> None:
    sent = message(RGB, "rgb8", 5)
    sent.data = sent.data[:-5]
    np.testing.assert_array_equal(decode(sent), RGB)


@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(encoding: str) -> None:
    value = decode(message(RGB[..., 0], encoding, 3))
    np.testing.assert_array_equal(value, np.repeat(RGB[..., :1], 3, axis=-1))


@pytest.mark.parametrize("big_endian", [False, True])
def test_sixteen_bits_are_scaled_to_eight(big_endian: bool) -> None:
    wide = (RGB.astype(np.uint16) * 257).astype(">u2" if big_endian else "<u2")
    np.testing.assert_array_equal(decode(message(wide, "rgb16", is_bigendian=int(big_endian))), RGB)


def test_bayer_patterns_keep_red_red() -> None:
    patterns = {"rggb": (0, 0), "bggr": (1, 1), "gbrg": (1, 0), "grbg": (0, 1)}
    for name, (row, column) in patterns.items():
        mosaic = np.zeros((6, 8), np.uint8)
        mosaic[row::2, column::2] = 200
        value = decode(message(mosaic, f"bayer_{name}8"))[2:4, 2:6].reshape(-1, 3).mean(axis=0)
        assert value[0] > 100, name
        assert value[2] == 0, name


def test_yuv_encodings_give_their_colour() -> None:
    red = np.full((6, 8, 3), (255, 0, 0), np.uint8)
    y, u, v = cv2.cvtColor(red, cv2.COLOR_RGB2YUV_I420)[[0, 6, -1], 0]
    uyvy, yuyv = np.tile([u, y, v, y], (6, 4)), np.tile([y, u, y, v], (6, 4))
    nv12 = np.concatenate([np.full((6, 8), y), np.tile([u, v], (3, 4))])
    nv21 = np.concatenate([np.full((6, 8), y), np.tile([v, u], (3, 4))])
    for encoding, data in (("yuv422", uyvy), ("yuv422_yuy2", yuyv), ("nv12", nv12), ("nv21", nv21)):
        value = decode(message(data.astype(np.uint8), encoding)).reshape(-1, 3)
        assert np.abs(value.astype(int) - (255, 0, 0)).max() < 4, encoding


def test_crop_comes_before_resize_and_equals_cv2() -> None:
    form = ImageSpec(4, 4, (1, 2, 5, 6))
    expected = cv2.resize(RGB[1:6, 2:8], (4, 4), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(decode(message(RGB, "rgb8"), form), expected)
    np.testing.assert_array_equal(decode(message(RGB[..., ::-1], "bgr8"), form), expected)


def test_a_crop_beyond_the_image_is_refused() -> None:
    with pytest.raises(DecodeError, match="beyond the image of 8x6 pixels"):
        decode(message(RGB, "rgb8"), ImageSpec(4, 4, (0, 4, 6, 8)))


def test_unknown_and_colourless_encodings_are_refused_with_a_reason() -> None:
    with pytest.raises(DecodeError, match=r"unknown image encoding 'rbg8'.*Did you mean 'rgb8'"):
        decode(message(RGB, "rbg8"))
    with pytest.raises(DecodeError, match="not colour"):
        decode(message(RGB, "32FC1"))


@pytest.mark.parametrize("changes", [{"data": b"123"}, {"step": 23}, {"height": 0}, {"height": 7}])
def test_too_little_data_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="'rgb8' image needs"):
        decode(message(RGB, "rgb8", **changes))


@pytest.mark.parametrize(
    ("encoding", "height", "width"),
    [
        *((name, 4, 5) for name in ("yuv422", "uyvy", "yuyv", "yuv422_yuy2", "nv12", "nv21")),
        *((name, 5, 4) for name in ("nv12", "nv21")),
        *((name, 2, 8) for name in ("bayer_rggb8", "bayer_bggr8", "bayer_gbrg8", "bayer_grbg8")),
        ("nv12", 1, 2),
    ],
)
def test_sizes_that_an_encoding_cannot_have_are_refused(encoding: str, height: int, width: int) -> None:
    sent = message(np.zeros((16, 64), np.uint8), encoding, height=height, width=width)
    with pytest.raises(DecodeError, match=f"a '{encoding}' image of {width}x{height} pixels cannot be"):
        decode(sent)


@pytest.mark.parametrize("encoding", ["rgb8", "mono16", "nv12", "bayer_rggb8", "yuyv"])
@pytest.mark.parametrize(
    "changes",
    [
        {"height": 2**32 - 2},
        {"width": 2**32 - 2, "step": 2**32 - 1},
        {"height": 2**32 - 2, "width": 2**32 - 2, "step": 2**32 - 1},
        {"step": 2**32 - 1},
        {"step": 0},
        {"width": 0},
    ],
)
def test_sizes_beyond_the_data_are_refused_before_anything_is_allocated(encoding: str, changes: dict[str, Any]) -> None:
    sent = message(np.zeros((16, 64), np.uint8), encoding, **changes)
    with pytest.raises(DecodeError, match=f"'{encoding}' image needs"):
        decode(sent)


def test_every_sixteen_bit_value_is_rounded_to_eight() -> None:
    every = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    value = decode(message(every, "mono16", width=256, height=256), ImageSpec(256, 256))
    np.testing.assert_array_equal(value[..., 0], np.rint(every * (255.0 / 65535.0)))


def test_text_of_a_sender_is_cut() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(message(RGB, "q" * 1_000_000))
    assert len(str(caught.value)) < 500
    with pytest.raises(DecodeError) as caught:
        decode_compressed_image(WHOLE, SimpleNamespace(format="j\n" * 1_000_000, data=b"x"), "/camera")
    assert len(str(caught.value)) < 500
    assert str(caught.value).isprintable()


def test_png_comes_through_unchanged_and_jpeg_nearly() -> None:
    smooth = cv2.resize(RGB, (64, 48))
    form = ImageSpec(48, 64)
    for kind, tolerance in ((".png", 0), (".jpg", 12)):
        data = cv2.imencode(kind, smooth[..., ::-1])[1].tobytes()
        value = decode_compressed_image(form, SimpleNamespace(format=kind, data=data), "/camera")
        assert np.abs(value.astype(int) - smooth).mean() <= tolerance


@pytest.mark.parametrize(
    ("name", "data", "sentence"),
    [
        ("jpeg", b"", "do not decode"),
        ("jpeg", b"nonsense", "do not decode"),
        ("16UC1; compressedDepth", b"x", "is depth"),
    ],
)
def test_a_damaged_compressed_image_is_refused(name: str, data: bytes, sentence: str) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_compressed_image(WHOLE, SimpleNamespace(format=name, data=data), "/camera")
