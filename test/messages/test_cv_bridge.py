"""cv_bridge is the oracle of every image encoding, decodes those that are not known here, and makes our messages."""

import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from vla_ros.contract import DepthSpec, ImageSpec
from vla_ros.data_types import DecodeError
from vla_ros.messages.forms import by_cv_bridge
from vla_ros.messages.forms.depth import decode_depth
from vla_ros.messages.forms.images import _ENCODINGS, decode_compressed_image, decode_image
from vla_ros.messages.message_types import deserialize, serialize, typestore

IMAGE = "sensor_msgs/msg/Image"
H, W = 8, 12
FORM = ImageSpec(H, W)
RNG = np.random.default_rng(3)

ALIASES = {"bayer_grbg8": "bayer_grbg"}
"""What a cv_bridge calls an encoding in its table of conversions, where it is another name."""


def bridge() -> Any:
    return pytest.importorskip("cv_bridge").CvBridge()


def pixels(encoding: str) -> np.ndarray:
    spec = _ENCODINGS[encoding]
    dtype, rows = (np.uint16 if spec.depth == 2 else np.uint8), H if spec.channels else H * 3 // 2
    shape = (rows, W, spec.channels) if spec.channels > 1 else (rows, W)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype)


def message(data: np.ndarray, encoding: str, **changes: Any) -> Any:
    fields = {"height": H, "width": W, "encoding": encoding, "is_bigendian": 0, "step": data.strides[0]}
    return SimpleNamespace(**{**fields, "data": data.tobytes(), **changes})


def oracle(encoding: str, data: np.ndarray) -> np.ndarray:
    """Return what cv_bridge makes of pixels; the conversion alone where it cannot read the message."""
    spec = _ENCODINGS[encoding]
    if spec.depth == 2:  # cv_bridge scales by 255 / 65535, but not every one converts 16 bits
        data, encoding = np.rint(data * (255.0 / 65535.0)).astype(np.uint8), encoding.replace("16", "8")
    if encoding == "rgb8":
        return data
    generic = {"8UC1": "mono8", "8UC3": "bgr8", "8UC4": "bgra8"}  # OpenCV's own order of channels
    encoding = generic.get(encoding, encoding)
    sent = message(data, encoding)
    try:
        return np.asarray(bridge().imgmsg_to_cv2(sent, "rgb8"))
    except (KeyError, TypeError, ValueError):  # CvBridgeError is a TypeError
        pass
    from cv_bridge.boost import cv_bridge_boost

    try:
        return np.asarray(cv_bridge_boost.cvtColor2(data, ALIASES.get(encoding, encoding), "rgb8"))
    except (KeyError, RuntimeError):
        pytest.skip(f"this cv_bridge does not know {encoding}")


@pytest.mark.parametrize("encoding", list(_ENCODINGS))
def test_every_encoding_becomes_what_cv_bridge_makes_of_it(encoding: str) -> None:
    bridge()
    data = pixels(encoding)
    np.testing.assert_array_equal(decode_image(FORM, message(data, encoding), "/camera"), oracle(encoding, data))


@pytest.mark.parametrize(("encoding", "dtype"), [("mono16", np.uint16), ("32FC1", np.float32), ("64FC1", np.float64)])
def test_distances_are_the_numbers_that_cv_bridge_reads(encoding: str, dtype: Any) -> None:
    data = RNG.uniform(200, 3000, (H, W)).astype(dtype)
    read = np.asarray(bridge().imgmsg_to_cv2(message(data, encoding), "passthrough"), np.float64)
    unit = 0.001 if dtype is np.uint16 else 1.0
    for name in (encoding, "16UC1") if dtype is np.uint16 else (encoding,):  # one depth under two names
        value = decode_depth(DepthSpec(H, W, min=0.1, max=3000.0), message(data, name), "/depth")
        np.testing.assert_allclose(value.reshape(H, W), read * unit, rtol=1e-6)


@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_compressed_images_are_what_cv_bridge_decodes(extension: str) -> None:
    data = cv2.imencode(f".{extension}", RNG.integers(0, 256, (H, W, 3), dtype=np.uint8))[1].tobytes()
    sent = SimpleNamespace(format="jpeg" if extension == "jpg" else "png", data=data)
    expected = np.asarray(bridge().compressed_imgmsg_to_cv2(sent))[..., ::-1]
    np.testing.assert_array_equal(decode_compressed_image(FORM, sent, "/camera"), expected)


class NewerBridge:
    """A cv_bridge that knows an encoding which the table here lacks: 16 bits a cell of a Bayer mosaic."""

    seen: Any = None

    def encoding_to_dtype_with_channels(self, encoding: str) -> tuple[str, int]:
        return {"bayer_rggb16": ("uint16", 1), "8UC2": ("uint8", 2)}[encoding]

    def imgmsg_to_cv2(self, sent: Any, encoding: str) -> np.ndarray:
        assert encoding == "rgb8"
        self.seen = sent
        if sent.encoding == "8UC2":
            raise TypeError("[8UC2] is not a color format. but [rgb8] is.")
        mosaic = np.frombuffer(sent.data, np.uint16).reshape(sent.height, sent.width)
        return cv2.cvtColor((mosaic >> 8).astype(np.uint8), cv2.COLOR_BayerBG2RGB)


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> NewerBridge:
    made = NewerBridge()
    monkeypatch.setattr(by_cv_bridge, "cv_bridge", lambda: made)
    return made


@pytest.mark.parametrize(("order", "padding"), [("<u2", 0), ("<u2", 6), (">u2", 0)])
def test_an_encoding_that_only_cv_bridge_knows_is_decoded_from_a_bag_as_live(
    newer: NewerBridge, order: str, padding: int
) -> None:
    mosaic = RNG.integers(0, 2**16, (H, W), dtype=np.uint16)
    rows = np.pad(mosaic.astype(order).view(np.uint8).reshape(H, -1), ((0, 0), (0, padding)), constant_values=9)
    big = int(order[0] == ">")
    value = decode_image(FORM, message(rows, "bayer_rggb16", is_bigendian=big), "/camera")
    eight = message((mosaic >> 8).astype(np.uint8), "bayer_rggb8")
    np.testing.assert_array_equal(value, decode_image(FORM, eight, "/camera"))
    assert (newer.seen.step, newer.seen.is_bigendian) == (2 * W, int(sys.byteorder == "big"))
    types = typestore().types
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 1), "")
    sent = types[IMAGE](header, H, W, "bayer_rggb16", big, rows.shape[1], rows.reshape(-1))
    raw = serialize(sent, IMAGE)
    np.testing.assert_array_equal(decode_image(FORM, deserialize(raw, IMAGE), "/camera"), value)
    pytest.importorskip("rclpy")
    from vla_ros.messages import rclpy_deserialize

    np.testing.assert_array_equal(decode_image(FORM, rclpy_deserialize.deserialize(raw, IMAGE), "/camera"), value)


def test_it_is_cropped_and_resized_as_any_other(newer: NewerBridge) -> None:
    mosaic = RNG.integers(0, 2**16, (H, W), dtype=np.uint16)
    whole = decode_image(FORM, message(mosaic, "bayer_rggb16"), "/camera")
    form = ImageSpec(4, 4, (0, 2, 8, 8))
    expected = cv2.resize(np.ascontiguousarray(whole[:, 2:10]), (4, 4), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(decode_image(form, message(mosaic, "bayer_rggb16"), "/camera"), expected)


@pytest.mark.parametrize(
    ("encoding", "changes", "sentence"),
    [
        ("nv42", {}, r"unknown image encoding 'nv42', to cv_bridge too; known are rgb8.*Did you mean"),
        ("8UC2", {}, r"cv_bridge cannot turn encoding '8UC2' into colours \(.*not a color format"),
        ("bayer_rggb16", {"step": 3}, r"needs 8 rows of at least 24 bytes, got step 3"),
        ("bayer_rggb16", {"height": 2**32 - 1}, r"rows of at least 24 bytes"),
    ],
)
def test_what_cv_bridge_cannot_do_is_refused_by_name(
    newer: NewerBridge, encoding: str, changes: Any, sentence: str
) -> None:
    with pytest.raises(DecodeError, match=sentence):
        decode_image(FORM, message(np.zeros((H, 2 * W), np.uint8), encoding, **changes), "/camera")


def test_without_cv_bridge_an_unknown_encoding_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    by_cv_bridge.cv_bridge.cache_clear()
    with pytest.raises(DecodeError, match=r"'bayer_rggb16', and cv_bridge, which may know it, is not installed"):
        decode_image(FORM, message(np.zeros((H, 2 * W), np.uint8), "bayer_rggb16"), "/camera")
    by_cv_bridge.cv_bridge.cache_clear()


def test_cv_bridge_is_imported_when_an_unknown_encoding_is_met_and_not_before() -> None:
    code = (
        "import json, sys, numpy as np; from types import SimpleNamespace as N;"
        "from vla_ros.contract import ImageSpec; from vla_ros.messages.forms.images import decode_image;"
        "sent = N(height=2, width=2, encoding='rgb8', is_bigendian=0, step=6, data=bytes(12));"
        "decode_image(ImageSpec(2, 2), sent, '/c');"
        "print(json.dumps([n for n in ('cv_bridge', 'sensor_msgs', 'rclpy') if n in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize(("shape", "dtype", "encoding"), [((H, W, 3), np.uint8, "rgb8"), ((H, W), np.float32, "32FC1")])
def test_the_simulator_s_images_are_cv_bridge_s_messages(shape: Any, dtype: Any, encoding: str) -> None:
    bridge()
    pytest.importorskip("rclpy")
    from std_msgs.msg import Header

    from vla_ros.nodes.sim.publishers import image_message
    from vla_ros.sim.message_maker import RosbagsMaker, header

    data = (RNG.uniform(0, 255, shape)).astype(dtype)
    sent = image_message(Header(frame_id="camera"), data, encoding)
    assert (sent.header.frame_id, sent.encoding, sent.step) == ("camera", encoding, data.strides[0])
    np.testing.assert_array_equal(bridge().imgmsg_to_cv2(sent, "passthrough"), data)
    own = RosbagsMaker().image(header(RosbagsMaker(), 0, "camera"), data, encoding)
    assert bytes(own.data) == bytes(sent.data)
    assert (own.height, own.width, own.step, own.encoding) == (sent.height, sent.width, sent.step, sent.encoding)
