"""A camera's calibration goes with its images into the dataset, as it holds for the images stored there."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from vla_ros import bags
from vla_ros.bags import BagWriter
from vla_ros.contract import ImageSpec, RobotContract, load_contract, parse_contract
from vla_ros.converters import convert_bags
from vla_ros.converters.calibration import fit_calibration
from vla_ros.data_types import ContractError
from vla_ros.datasets import EpisodeDataset

spec = importlib.util.spec_from_file_location("field_rig", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
rig = sys.modules.setdefault("field_rig", importlib.util.module_from_spec(spec))
spec.loader.exec_module(rig)
INFO = "sensor_msgs/msg/CameraInfo"
K = [500.0, 0.0, 7.5, 0.0, 510.0, 8.0, 0.0, 0.0, 1.0]
P = [490.0, 0.0, 7.0, -30.0, 0.0, 495.0, 8.0, 0.0, 0.0, 0.0, 1.0, 0.0]
CALIBRATION = {"height": 16, "width": 16, "distortion_model": "plumb_bob", "d": [0.1] * 5, "k": K, "r": [], "p": P}


def contract_with(contract: RobotContract, info: str) -> RobotContract:
    path = Path(contract.source)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("image: {height: 16, width: 16}", f"image: {{height: 32, width: 32, info: {info}}}"))
    return load_contract(path)


def camera_info(fx: float = 500.0, **changes: Any) -> Any:
    roi = rig.made("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
    fields = {
        "header": rig.header(rig.START),
        "height": 16,
        "width": 16,
        "distortion_model": "plumb_bob",
        "d": np.full(5, 0.1),
        "k": np.array([fx, *K[1:]]),
        "r": np.eye(3).ravel(),
        "p": np.array(P),
        "binning_x": 0,
        "binning_y": 0,
        "roi": roi,
        **changes,
    }
    return rig.made(INFO, *fields.values())


def bag_with(path: Path, *infos: Any) -> Path:
    messages = [("/cam/camera_info", INFO, rig.START + k, info) for k, info in enumerate(infos)]
    return rig.record(path, [*messages, *rig.ticks(10)])


def stored(contract: RobotContract, root: Path, *bags: Path, **options: Any) -> tuple[Any, tuple[str, ...]]:
    report = convert_bags(bags, contract, root, progress=False, **{"image_storage": "png", **options})
    dataset = EpisodeDataset(root)
    info = dataset.info["features"]["observation.images.front"].get("info") or {}
    camera = dataset.features["observation.images.front"].camera_info
    assert camera == info.get("camera_info")
    return camera, report.notes


@pytest.mark.parametrize("storage", ["png", "video"])
def test_the_contract_s_numbers_go_into_info_of_the_image_s_feature(
    storage: str, counting_rig: RobotContract, tmp_path: Path
) -> None:
    numbers = f"{{height: 16, width: 16, k: {K}, d: {[0.1] * 5}}}"
    contract = contract_with(counting_rig, numbers)
    camera, notes = stored(contract, tmp_path / "d", bag_with(tmp_path / "a"), image_storage=storage)
    assert (camera["height"], camera["width"], camera["distortion_model"], camera["d"]) == (
        32,
        32,
        "plumb_bob",
        [0.1] * 5,
    )
    np.testing.assert_allclose(camera["k"], [1000, 0, 15.5, 0, 1020, 16.5, 0, 0, 1])
    assert not [note for note in notes if "calibration" in note]


def test_the_topic_s_message_does_too_and_the_contract_s_hash_stays(
    counting_rig: RobotContract, tmp_path: Path
) -> None:
    contract = contract_with(counting_rig, "{topic: /cam/camera_info}")
    without = Path(contract.source).read_text().replace(", info: {topic: /cam/camera_info}", "")
    camera, notes = stored(contract, tmp_path / "d", bag_with(tmp_path / "a", camera_info(), camera_info(fx=1.0)))
    assert camera["k"][0] == 1000.0
    assert camera["r"] == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert not [note for note in notes if "calibration" in note]
    assert contract.hash == parse_contract(yaml.safe_load(without), "robot.yaml").hash


@pytest.mark.parametrize(
    ("infos", "sentence"),
    [
        ([], "holds no sensor_msgs/msg/CameraInfo on /cam/camera_info"),
        ([camera_info(fx=0.0)], "is not calibrated"),
        ([camera_info(fx=np.nan)], "not finite"),
        ([camera_info(width=32)], "is of 32x16 pixels, the images on /cam have 16x16"),
        ([camera_info(binning_x=2)], "binned image"),
        ([camera_info(width=0)], "is of 0x16 pixels, which no image has"),
        ([camera_info(d=np.zeros(1000))], "has 1000 distortion coefficients, more than any model"),
    ],
)
def test_images_without_a_calibration_are_stored_and_it_is_said(
    infos: Any, sentence: str, counting_rig: RobotContract, tmp_path: Path
) -> None:
    contract = contract_with(counting_rig, "{topic: /cam/camera_info}")
    camera, notes = stored(contract, tmp_path / "d", bag_with(tmp_path / "a", *infos))
    assert camera is None
    assert [note for note in notes if "'observation.images.front' has no calibration" in note and sentence in note]


def test_a_damaged_calibration_refuses_no_bag(counting_rig: RobotContract, tmp_path: Path) -> None:
    contract = contract_with(counting_rig, "{topic: /cam/camera_info}")
    with BagWriter(tmp_path / "a") as writer:
        writer.write("/cam/camera_info", INFO, bags.serialize(camera_info(), INFO)[:40], rig.START)
        for topic, kind, receive_ns, message in rig.ticks(10):
            writer.write(topic, kind, bags.serialize(message, kind), receive_ns)
    camera, notes = stored(contract, tmp_path / "d", tmp_path / "a")
    assert camera is None
    assert [note for note in notes if "'observation.images.front' has no calibration" in note]


def test_bags_of_differently_calibrated_cameras_leave_the_dataset_without(
    counting_rig: RobotContract, tmp_path: Path
) -> None:
    contract = contract_with(counting_rig, "{topic: /cam/camera_info}")
    bags = [bag_with(tmp_path / name, camera_info(fx=fx)) for name, fx in (("a", 500.0), ("b", 501.0))]
    camera, notes = stored(contract, tmp_path / "d", *bags)
    assert camera is None
    assert [note for note in notes if f"{bags[1]} differs from that of {bags[0]}" in note]


def test_a_point_projects_onto_the_pixel_that_cropping_and_resizing_put_it_on() -> None:
    form = ImageSpec(24, 40, (2, 3, 6, 8))
    fitted = fit_calibration({**CALIBRATION, "height": 10, "width": 16}, form)
    k, new = np.reshape(K, (3, 3)), np.reshape(fitted["k"], (3, 3))
    ray = np.linalg.solve(k, [6.0, 5.0, 1.0])  # the centre of the pixel in column 6, row 5
    image = np.zeros((10, 16), np.float32)
    image[5, 6] = 1.0
    resized = cv2.resize(image[2:8, 3:11], (40, 24), interpolation=cv2.INTER_LINEAR)
    rows, columns = np.indices(resized.shape)
    centre = np.array([(columns * resized).sum(), (rows * resized).sum()]) / resized.sum()
    np.testing.assert_allclose((new @ ray)[:2], centre, atol=1e-4)
    np.testing.assert_allclose(np.reshape(fitted["p"], (3, 4))[2], [0, 0, 1, 0])
    assert fitted["d"] == CALIBRATION["d"]


@pytest.mark.parametrize(
    ("info", "error"),
    [
        ("{}", r"image.info needs a topic of CameraInfo, or height, width and k"),
        (f"{{k: {K}}}", r"image.info.height is required"),
        (f"{{topic: /a, k: {K}}}", r"image.info.topic and k say the same"),
        ("{height: 1, width: 1, k: [1.0]}", r"image.info.k expected 9 entries, got 1"),
        (f"{{height: 1, width: 1, k: {[0.0] * 9}}}", r"image.info.k holds focal lengths 0 and 0"),
        ("{topic: camera_info}", r"image.info.topic 'camera_info' is not a full topic name"),
    ],
)
def test_a_calibration_that_is_none_is_refused(info: str, error: str, counting_rig: RobotContract) -> None:
    with pytest.raises(ContractError, match=error):
        contract_with(counting_rig, info)
