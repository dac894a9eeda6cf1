"""sensor_msgs: cameras, joints, inertial sensors, LiDARs, range finders."""

from array import array
from typing import Any, TypeVar

import numpy as np

from vla_ros.contract import ActionSpec, InputSpec, RecordSpec, RobotContract, SinkSpec
from vla_ros.contract.types import AsInput, AsRecord, AsSink, MessageType, SensorKey
from vla_ros.data_types import Array, Command, DecodeError
from vla_ros.messages import encoding, samples
from vla_ros.messages.forms.fields import decode_fields, fields_input, xyz, xyzw
from vla_ros.messages.forms.vectors import as_finite_float32, joint_values
from vla_ros.messages.message_class import message_class
from vla_ros.messages.samples import Rng

_IMU = xyz("angular_velocity") + xyz("linear_acceleration")

Form = TypeVar("Form")


def _given(form: Form | None, spec: InputSpec) -> Form:
    if form is None:
        raise ValueError(f"{spec.key}: a {spec.type} needs its form; contracts from `parse_contract` have it")
    return form


def _image(spec: InputSpec, message: Any, place: str) -> Array:
    if spec.depth is not None:
        from vla_ros.messages.forms.depth import decode_depth  # OpenCV

        return decode_depth(spec.depth, message, place)
    if spec.map is not None:
        from vla_ros.messages.forms.maps import decode_map

        return decode_map(spec.map, message, place)
    from vla_ros.messages.forms.images import decode_image  # OpenCV

    return decode_image(_given(spec.image, spec), message, place)


def _image_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    if spec.depth is not None:
        values = rng.integers(0, round(1.2 * spec.depth.max / spec.depth.unit), (96, 128)).astype(np.uint16)
        header = samples.header(stamp_ns, spec.frame)
        return samples.new(spec.type, header, 96, 128, "16UC1", 0, 256, values.view(np.uint8).reshape(-1))
    if spec.map is not None:
        numbers = rng.uniform(spec.map.min, spec.map.max, (96, 128)).astype(np.float32)
        header = samples.header(stamp_ns, spec.frame)
        return samples.new(spec.type, header, 96, 128, "32FC1", 0, 512, numbers.view(np.uint8).reshape(-1))
    height, width = (96, 128) if spec.image is None or spec.image.crop is None else (480, 640)
    pixels = rng.integers(0, 256, height * width * 3, dtype=np.uint8)
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), height, width, "rgb8", 0, width * 3, pixels)


def _compressed_image(spec: InputSpec, message: Any, place: str) -> Array:
    if spec.depth is not None:
        from vla_ros.messages.forms.depth import decode_compressed_depth  # OpenCV

        return decode_compressed_depth(spec.depth, message, place)
    from vla_ros.messages.forms.images import decode_compressed_image  # OpenCV

    return decode_compressed_image(_given(spec.image, spec), message, place)


def _compressed_image_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    import cv2

    if spec.depth is not None:
        values = rng.integers(0, round(1.2 * spec.depth.max / spec.depth.unit), (96, 128)).astype(np.uint16)
        png = np.concatenate([np.zeros(12, np.uint8), cv2.imencode(".png", values)[1].reshape(-1)])
        header = samples.header(stamp_ns, spec.frame)
        return samples.new(spec.type, header, "16UC1; compressedDepth png", png)

    pixels = rng.integers(0, 256, (96, 128, 3), dtype=np.uint8)
    data = cv2.imencode(".jpg", pixels)[1].reshape(-1)
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), "jpeg", data)


def _joints(spec: InputSpec, message: Any, place: str) -> Array:
    return as_finite_float32(
        joint_values(message, spec.ros_names or spec.names, spec.fields[0], place), spec.names, place
    )


def _joints_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    names = [*reversed(spec.ros_names or spec.names), "another_joint"]
    position, velocity, effort = rng.normal(size=(3, len(names)))
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), names, position, velocity, effort)


def _recorded_joints(action: ActionSpec, record: RecordSpec, message: Any, place: str) -> Array:
    return joint_values(message, record.ros_names or record.names or action.names, "position", place)


def _recorded_joints_sample(action: ActionSpec, record: RecordSpec, stamp_ns: int, _: int, rng: Rng) -> Any:
    names, empty = list(record.ros_names or record.names or action.names), np.empty(0)
    return samples.new(record.type, samples.header(stamp_ns, ""), names, rng.normal(size=len(names)), empty, empty)


def _joints_command(sink: SinkSpec, contract: RobotContract, command: Command) -> Any:
    names, indices = encoding.selected(sink, contract)
    return message_class(sink.type)(
        header=encoding.header_message(command.effect_ns, ""),  # joint positions have no frame
        name=list(sink.ros_names or names),
        position=array("d", command.action[indices].tolist()),
    )


def _imu(spec: InputSpec, message: Any, place: str) -> Array:
    for name in {field.partition(".")[0] for field in spec.fields}:
        # sensor_msgs/Imu: a first covariance of -1 says that the sensor has no such measurement
        if getattr(message, f"{name}_covariance")[0] == -1:
            raise DecodeError(
                f"{place}: the IMU says that it measures no {name} (covariance -1); leave it out of fields"
            )
    return decode_fields(spec, message, place)


def _imu_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    unknown = np.zeros(9)
    fields = [samples.quaternion(rng), unknown, samples.vector3(rng), unknown, samples.vector3(rng), unknown]
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), *fields)


def _point_cloud(spec: InputSpec, message: Any, place: str) -> Array:
    from vla_ros.messages.forms.points import decode_point_cloud

    return decode_point_cloud(_given(spec.points, spec), message, place)


def _point_cloud_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    names = ("x", "y", "z") if spec.points is None else spec.points.fields
    count = 100 if spec.points is None else 2 * spec.points.count
    fields = [samples.new("sensor_msgs/msg/PointField", name, 4 * index, 7, 1) for index, name in enumerate(names)]
    data = rng.normal(size=(count, len(names))).astype(np.float32).view(np.uint8).reshape(-1)
    step = 4 * len(names)
    header = samples.header(stamp_ns, spec.frame)
    return samples.new(spec.type, header, 1, count, fields, False, step, step * count, data, True)


def _laser_scan(spec: InputSpec, message: Any, place: str) -> Array:
    from vla_ros.messages.forms.points import decode_laser_scan

    return decode_laser_scan(_given(spec.points, spec), message, place)


def _laser_scan_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    ranges = rng.uniform(0.0, 12.0, 180).astype(np.float32)  # some beyond range_max
    limits = [-np.pi / 2, np.pi / 2, np.pi / 180, 0.0, 0.1, 0.05, 10.0]
    intensities = rng.uniform(size=180).astype(np.float32)
    return samples.new(spec.type, samples.header(stamp_ns, spec.frame), *limits, ranges, intensities)


def _range_sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    header = samples.header(stamp_ns, spec.frame)
    return samples.new(spec.type, header, 0, 0.1, 0.05, 4.0, float(rng.uniform(0.1, 4.0)), 0.0)


_EFFORT_KEYS = tuple(
    SensorKey(pattern, lambda spec: spec.fields == ("effort",))
    for pattern in ("observation.effort", "observation.effort.<name>")
)

_IMAGE_KEYS = (
    SensorKey("observation.images.<camera>", lambda spec: spec.raster is None or spec.raster is spec.image),
    SensorKey("observation.images.<camera>_depth", lambda spec: spec.depth is not None),
    SensorKey("observation.radar.<radar>", lambda spec: spec.map is not None),
)


ROWS = (
    MessageType(
        "sensor_msgs/msg/Image",
        "A camera's image, cropped, resized, RGB; or depth, 16UC1 or 32FC1, in metres; or a map of numbers, 32FC1.",
        as_input=AsInput("image", _image, _image_sample, keys=_IMAGE_KEYS),
    ),
    MessageType(
        "sensor_msgs/msg/CompressedImage",
        "The same as JPEG, PNG, TIFF, WebP or BMP; or depth as PNG of compressedDepth.",
        as_input=AsInput("image", _compressed_image, _compressed_image_sample, keys=_IMAGE_KEYS),
    ),
    MessageType(
        "sensor_msgs/msg/JointState",
        "Positions, velocities or efforts of joints, found by name; recorded or sent, the commanded positions.",
        as_input=AsInput("joints", _joints, _joints_sample, keys=_EFFORT_KEYS),
        as_record=AsRecord(("joint_position",), _recorded_joints, _recorded_joints_sample, carries="any"),
        as_sink=AsSink(("joint_position",), _joints_command, carries="any"),
    ),
    MessageType(
        "sensor_msgs/msg/Imu",
        "A window of an inertial sensor's samples (REP-145).",
        as_input=AsInput(
            "window",
            _imu,
            _imu_sample,
            _IMU + xyzw("orientation"),
            _IMU,
            keys=(SensorKey("observation.imu.<imu>"),),
        ),
    ),
    MessageType(
        "sensor_msgs/msg/PointCloud2",
        "Points of a LiDAR, a radar (fields as vx, vy, rcs) or a depth camera.",
        as_input=AsInput(
            "points",
            _point_cloud,
            _point_cloud_sample,
            fields=("x", "y", "z"),
            keys=(SensorKey("observation.points.<lidar>"), SensorKey("observation.radar.<radar>")),
        ),
    ),
    MessageType(
        "sensor_msgs/msg/LaserScan",
        "The hits of a planar LiDAR as points (REP-117).",
        as_input=AsInput(
            "points",
            _laser_scan,
            _laser_scan_sample,
            ("x", "y", "z", "range", "angle", "intensity"),
            ("x", "y"),
            keys=(SensorKey("observation.scan.<lidar>"),),
        ),
    ),
    MessageType("sensor_msgs/msg/Range", "One distance, m.", as_input=fields_input(("range",), _range_sample)),
)
