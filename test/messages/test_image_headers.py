import re
import struct
import zlib
from random import Random
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from vla_ros.contract import ImageSpec
from vla_ros.data_types import DecodeError
from vla_ros.messages.forms import images
from vla_ros.messages.forms.image_headers import Header, named_codecs, read_header
from vla_ros.messages.forms.images import MAX_PIXELS, decode_compressed_image

SMOOTH = cv2.resize(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8), (70, 50))
FORM = ImageSpec(25, 35)


def encoded(extension: str, *options: int, pixels: np.ndarray = SMOOTH) -> bytes:
    data: bytes = cv2.imencode(extension, pixels, options)[1].tobytes()
    return data


FILES = {
    "JPEG": encoded(".jpg"),
    "JPEG, progressive": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "PNG": encoded(".png"),
    "PNG, 16 bit": encoded(".png", pixels=SMOOTH.astype(np.uint16) * 257),
    "WebP, lossless": encoded(".webp"),
    "WebP, lossy": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    "TIFF, LZW": encoded(".tiff"),
    "TIFF, plain": encoded(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 1),
    "TIFF, deflate": encoded(".tiff", cv2.IMWRITE_TIFF_COMPRESSION, 8),
    "BMP": encoded(".bmp"),
}


def header(data: bytes) -> Header:
    return read_header(memoryview(data))


def decode(data: bytes, said: str = "") -> np.ndarray:
    return decode_compressed_image(FORM, SimpleNamespace(format=said, data=data), "/camera (k)")


@pytest.mark.parametrize("name", FILES)
def test_the_header_states_the_size_that_decoding_gives(name: str) -> None:
    found = header(FILES[name])
    assert (found.codec, found.width, found.height) == (name.partition(",")[0], 70, 50)
    assert found.least_bytes <= len(FILES[name])
    assert found.is_colour


@pytest.mark.parametrize("name", FILES)
def test_pixels_are_those_of_opencv(name: str) -> None:
    pixels = cv2.imdecode(np.frombuffer(FILES[name], np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(decode(FILES[name]), cv2.resize(pixels, (35, 25))[..., ::-1])


def png(width: int, height: int, *chunks: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = chunk(b"IDAT", zlib.compress(bytes(100)))
    size = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + size + b"".join(chunks) + pixels + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(FILES["JPEG"])
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_extended(width: int, height: int, flags: int = 0) -> bytes:
    body = (
        b"WEBPVP8X"
        + struct.pack("<IB3x", 10, flags)
        + struct.pack("<I", width - 1)[:3]
        + struct.pack("<I", height - 1)[:3]
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def bmp(width: int, height: int) -> bytes:
    return FILES["BMP"][:18] + struct.pack("<ii", width, height) + FILES["BMP"][26:]


def tiff(*entries: tuple[int, int, int], order: str = "<") -> bytes:
    """A directory of (tag, type, value)."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    rows = b"".join(
        struct.pack(f"{order}HHI{'H2x' if kind == 3 else 'I'}", tag, kind, 1, value) for tag, kind, value in entries
    )
    return mark + struct.pack(f"{order}IH", 8, len(entries)) + rows + bytes(4)


BOMBS = {
    "PNG": png(40_000, 40_000),
    "JPEG": jpeg(20_000, 20_000),
    "WebP": webp_extended(16_384, 16_384),
    "WebP, lossless": FILES["WebP, lossless"][:21] + struct.pack("<I", 0x0FFFFFFF) + FILES["WebP, lossless"][25:],
    "BMP": bmp(30_000, -30_000),
    "TIFF": tiff((256, 4, 70_000), (257, 4, 70_000)),
    "TIFF, big endian": tiff((256, 3, 60_000), (257, 3, 60_000), order=">"),
    "TIFF of one huge tile": tiff((256, 4, 64), (257, 4, 64), (322, 4, 16_000), (323, 4, 16_000)),
    "TIFF of one huge strip": tiff((256, 4, 64), (257, 4, 64), (278, 4, 2**23)),
    "TIFF that gives its size twice": tiff((256, 4, 64), (256, 4, 70_000), (257, 4, 64), (257, 4, 70_000)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_an_image_that_declares_too_many_pixels_is_refused_unseen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("nothing may be decoded"))
    with pytest.raises(DecodeError, match=r"^/camera \(k\): .* declares \d+x\d+ pixels; at most 33554432 pixels"):
        decode(BOMBS[name])


def test_a_strip_of_all_rows_is_no_larger_than_the_image() -> None:
    found = header(tiff((256, 4, 64), (257, 4, 48), (278, 4, 2**32 - 1)))
    assert (found.width, found.height) == (64, 48)


@pytest.mark.parametrize("data", [png(5_000, 5_000), jpeg(5_000, 5_000)])
def test_an_image_larger_than_its_bytes_could_hold_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match=r"declares 5000x5000 pixels, which take at least \d+ bytes"):
        decode(data)


@pytest.mark.parametrize(
    "data", [png(0, 5), jpeg(0, 5), bmp(-5, 5), png(MAX_PIXELS // 2, 1), b"RIFF....WEBPVP8 " + bytes(20)]
)
def test_sizes_that_no_image_has_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="do not decode: the image"):
        decode(data)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (encoded(".gif"), "a GIF"),
        (encoded(".jp2"), "JPEG 2000"),
        (encoded(".ppm"), "a portable pixmap"),
        (encoded(".ras"), "a Sun raster"),
        (encoded(".hdr", pixels=SMOOTH.astype(np.float32)), "Radiance HDR"),
        (b"\0\0\0 ftypavif" + bytes(30), "AVIF"),
        (b"\x76\x2f\x31\x01" + bytes(30), "OpenEXR"),
        (b"II+\0" + bytes(30), "a BigTIFF"),
    ],
)
def test_formats_whose_size_is_unknown_are_refused_by_name(data: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=f"the image is {what}.*publish it as jpeg or png"):
        decode(data)


def test_animations_are_refused() -> None:
    frames = b"\0\0\0\x08acTL" + struct.pack(">II", 2, 0) + bytes(4)
    with pytest.raises(DecodeError, match="is an animated PNG"):
        decode(png(4, 4, frames))
    with pytest.raises(DecodeError, match="is an animated WebP"):
        decode(webp_extended(4, 4, flags=2))


def test_a_png_chunk_that_declares_gigabytes_is_refused() -> None:
    with pytest.raises(DecodeError, match="ends within a PNG chunk"):
        decode(png(4, 4, struct.pack(">I", 2**32 - 100) + b"tEXt" + bytes(8)))


def test_a_jpeg_of_endless_scans_is_refused() -> None:
    data = FILES["JPEG, progressive"]
    scans = [match.start() for match in re.finditer(b"\xff\xda", data)]
    with pytest.raises(DecodeError, match="more than the 64 that any camera needs"):
        decode(data[:-2] + data[scans[-1] : -2] * 100 + data[-2:])


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_cut_off_is_refused(name: str) -> None:
    for length in (*range(3, 60, 3), len(FILES[name]) // 2):
        with pytest.raises(DecodeError, match="do not decode"):
            decode(FILES[name][:length])


@pytest.mark.parametrize("compression", [6, 7, 34887, 34925, 50000])
def test_tiffs_that_state_sizes_within_their_data_are_refused(compression: int) -> None:
    with pytest.raises(DecodeError, match=f"is a TIFF of compression {compression}"):
        decode(tiff((256, 4, 64), (257, 4, 64), (259, 3, compression), (259, 3, 1)))


def test_numbers_are_not_colour() -> None:
    with pytest.raises(DecodeError, match="depth or raw numbers"):
        decode(encoded(".tiff", pixels=SMOOTH[..., 0].astype(np.float32)))
    for said in ("16UC1; png compressed", "32FC1; tiff compressed", "16UC1; compressedDepth png"):
        with pytest.raises(DecodeError, match="is depth"):
            decode(FILES["PNG"], said)


@pytest.mark.parametrize(
    ("said", "codecs"),
    [
        ("jpeg", {"JPEG"}),
        (".jpg", {"JPEG"}),
        ("rgb8; jpeg compressed bgr8", {"JPEG"}),
        ("bgr8; PNG compressed", {"PNG"}),
        ("", set()),
        ("rgb8", set()),
    ],
)
def test_a_format_names_its_codec(said: str, codecs: set[str]) -> None:
    assert named_codecs(said) == codecs


def test_a_format_that_lies_is_refused() -> None:
    with pytest.raises(DecodeError, match="format says 'bgr8; jpeg compressed bgr8', but the data are PNG"):
        decode(FILES["PNG"], "bgr8; jpeg compressed bgr8")
    assert decode(FILES["PNG"], "bgr8; png compressed bgr8").shape == (25, 35, 3)


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_an_image_or_refused_within_the_declared_size(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared: list[Header] = []
    monkeypatch.setattr(images, "read_header", lambda data: declared.append(read_header(data)) or declared[-1])
    rng = Random(name)
    decoded = 0
    for _ in range(300):
        data = bytearray(FILES[name])
        for _ in range(rng.choice((1, 1, 2, 5))):
            at = rng.choice((rng.randrange(100), rng.randrange(len(data)), len(data) - 1 - rng.randrange(180)))
            if rng.random() < 0.5:
                data[at] = rng.randrange(256)
            else:
                data[at : at + 4] = struct.pack(
                    rng.choice("<>") + "I", rng.choice((0, 1, 5_000, 2**16, 2**31, 2**32 - 1))
                )
        try:
            value = decode(bytes(data))
        except DecodeError:
            continue
        decoded += 1
        assert value.shape == (25, 35, 3)
        assert declared[-1].width * declared[-1].height <= MAX_PIXELS
    assert decoded
