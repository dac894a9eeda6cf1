"""Calibration of the cameras of a dataset: from the contract, or from the CameraInfo messages of the bags. No pixels.

A dataset holds images that were cropped and resized, so it holds the calibration of those.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vla_ros.contract import CameraInfoSpec, FeatureSpec, ImageSpec, InputSpec, RobotContract
from vla_ros.converters.scan import BagScan
from vla_ros.data_types import DatasetError, DecodeError

Calibration = dict[str, Any]
"""height, width, distortion_model, d, k, r, p, as sensor_msgs/CameraInfo has them; lists."""

_MAX_DISTORTION = 14
"""Coefficients of OpenCV's largest model, with thin prisms and a tilted sensor."""

_LENGTHS = {"k": 9, "r": 9, "p": 12}


def with_calibration(
    features: Mapping[str, FeatureSpec], scans: Sequence[BagScan], contract: RobotContract, notes: list[str]
) -> dict[str, FeatureSpec]:
    """Return features with the calibration of their cameras.

    Args:
        features: Those that are stored.
        scans: The bags.
        contract: Which camera has which calibration, or publishes it where.
        notes: Gets a sentence for every camera whose calibration cannot be stored; its images are.
    """
    found = dict(features)
    for spec in contract.inputs:
        if spec.info is None or spec.raster is None or spec.key not in features:
            continue
        try:
            calibration = _of_bags(spec, spec.info, scans) if spec.info.topic else _of_contract(spec.info)
            fitted = fit_calibration(calibration, spec.raster)
        except (DatasetError, DecodeError) as reason:
            notes.append(f"'{spec.key}' has no calibration in the dataset: {reason}")
        else:
            found[spec.key] = replace(features[spec.key], camera_info=fitted)
    return found


def fit_calibration(calibration: Calibration, form: ImageSpec) -> Calibration:
    """Return the calibration of a camera's image after crop and resize.

    The centre of the first pixel is at (0, 0), as in OpenCV, and resizing keeps the image's corners where they are.
    Distortion works on normalised coordinates and the rectification turns them, so that both stay.

    Args:
        calibration: Of the incoming image.
        form: What is made of it.

    Raises:
        DatasetError: The crop goes beyond the image that was calibrated.
    """
    width, height = calibration["width"], calibration["height"]
    top, left, rows, columns = form.crop or (0, 0, height, width)
    if top + rows > height or left + columns > width:
        raise DatasetError(f"its crop goes beyond the {width}x{height} pixels that were calibrated.")
    scale_x, scale_y = form.width / columns, form.height / rows
    change = np.array(
        [
            [scale_x, 0.0, (0.5 - left) * scale_x - 0.5],
            [0.0, scale_y, (0.5 - top) * scale_y - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    fitted = {**calibration, "height": form.height, "width": form.width}
    for name, shape in (("k", (3, 3)), ("p", (3, 4))):
        if calibration[name]:
            fitted[name] = (change @ np.reshape(calibration[name], shape)).ravel().tolist()
    return fitted


def _of_contract(info: CameraInfoSpec) -> Calibration:
    return {
        "height": info.height,
        "width": info.width,
        "distortion_model": info.distortion_model,
        **{name: list(getattr(info, name)) for name in ("d", "k", "r", "p")},
    }


def _of_bags(spec: InputSpec, info: CameraInfoSpec, scans: Sequence[BagScan]) -> Calibration:
    """Return what the bags say, which must be the same in all.

    Raises:
        DatasetError: They hold none, or different ones, or the camera is not calibrated, or it is of another image.
    """
    first: tuple[Calibration, BagScan] | None = None
    for scan in scans:
        message = scan.camera_infos.get(info.topic)
        if message is None:
            raise DatasetError(f"{scan.bag}: holds no sensor_msgs/msg/CameraInfo on {info.topic}.")
        calibration = _of_message(message, f"{scan.bag}: {info.topic}")
        size = scan.image_sizes.get(spec.topic)
        if size is not None and size != (calibration["height"], calibration["width"]):
            raise DatasetError(
                f"{scan.bag}: {info.topic} is of {calibration['width']}x{calibration['height']} pixels, the images on "
                f"{spec.topic} have {size[1]}x{size[0]}."
            )
        if first is None:
            first = calibration, scan
        elif not _same(first[0], calibration):
            raise DatasetError(f"{info.topic} of {scan.bag} differs from that of {first[1].bag}.")
    if first is None:
        raise DatasetError("there is no bag.")
    return first[0]


def _of_message(message: Any, place: str) -> Calibration:
    numbers = {name: np.asarray(getattr(message, name), np.float64) for name in ("d", "k", "r", "p")}
    if not all(np.isfinite(values).all() for values in numbers.values()):
        raise DatasetError(f"{place} holds a number that is not finite.")
    if any(len(numbers[name]) != length for name, length in _LENGTHS.items()) or min(numbers["k"][[0, 4]]) <= 0:
        raise DatasetError(f"{place} says that the camera is not calibrated: its k holds no focal length.")
    if min(int(message.width), int(message.height)) < 1:
        raise DatasetError(f"{place} is of {message.width}x{message.height} pixels, which no image has.")
    if len(numbers["d"]) > _MAX_DISTORTION:
        raise DatasetError(f"{place} has {len(numbers['d'])} distortion coefficients, more than any model.")
    roi = message.roi
    part = (int(roi.x_offset), int(roi.y_offset), int(roi.width), int(roi.height))
    whole = part in ((0, 0, 0, 0), (0, 0, int(message.width), int(message.height)))
    if not whole or max(int(message.binning_x), int(message.binning_y)) > 1:
        raise DatasetError(f"{place} is of a binned image or a part of one, which is not read; publish it without roi.")
    return {
        "height": int(message.height),
        "width": int(message.width),
        "distortion_model": str(message.distortion_model)[:80],
        **{name: values.tolist() for name, values in numbers.items()},
    }


def _same(one: Calibration, other: Calibration) -> bool:
    exact = ("height", "width", "distortion_model")
    return all(one[name] == other[name] for name in exact) and all(
        len(one[name]) == len(other[name]) and np.allclose(one[name], other[name], rtol=1e-9, atol=1e-12)
        for name in ("d", "k", "r", "p")
    )
