"""A sensor under the key of another kind is refused with the right one; a key of the robot's own is taken."""

from typing import Any

import pytest

from vla_ros.data_types import ContractError

IMAGE = {"height": 4, "width": 4}
DEPTH = {**IMAGE, "depth": {"min": 0.1, "max": 4.0}}
MAP = {**IMAGE, "map": {"min": -90.0, "max": 0.0}}


@pytest.mark.parametrize(
    ("type_name", "key", "right"),
    [
        ("sensor_msgs/msg/LaserScan", "observation.points.front", "observation.scan.front"),
        ("sensor_msgs/msg/PointCloud2", "observation.scan.roof", "observation.points.roof"),
        ("sensor_msgs/msg/Imu", "observation.wrench.imu", "observation.imu.imu"),
        ("sensor_msgs/msg/Image", "observation.points.front", "observation.images.front"),
        ("sensor_msgs/msg/CompressedImage", "observation.images.front_depth", "observation.images.front"),
        ("geometry_msgs/msg/WrenchStamped", "observation.effort", "observation.wrench.effort"),
        ("radar_msgs/msg/RadarScan", "observation.points.bumper", "observation.radar.bumper"),
    ],
)
def test_a_sensor_under_another_key_is_refused(type_name: str, key: str, right: str, make_contract: Any) -> None:
    with pytest.raises(ContractError, match=rf"key '{key}' is no key of {type_name}, which is .*; call it {right}$"):
        make_contract(type_name, key=key)
    assert make_contract(type_name, key=right).inputs[0].key == right


@pytest.mark.parametrize(
    ("type_name", "key"),
    [
        ("sensor_msgs/msg/Image", "observation.front"),
        ("sensor_msgs/msg/LaserScan", "observation.lidar"),
        ("geometry_msgs/msg/WrenchStamped", "observation.state"),
        ("radar_msgs/msg/RadarTracks", "observation.tracks"),
        ("sensor_msgs/msg/Imu", "observation.imu"),
    ],
)
def test_a_key_of_the_robot_s_own_is_taken(type_name: str, key: str, make_contract: Any) -> None:
    assert make_contract(type_name, key=key).inputs[0].key == key


@pytest.mark.parametrize(
    ("image", "key", "right"),
    [
        (DEPTH, "observation.images.front", "observation.images.front_depth"),
        (MAP, "observation.images.bumper", "observation.radar.bumper"),
    ],
)
def test_the_form_of_an_image_decides_its_key(image: Any, key: str, right: str, make_contract: Any) -> None:
    with pytest.raises(ContractError, match=f"call it {right}$"):
        make_contract("sensor_msgs/msg/Image", key=key, image=image)
    assert make_contract("sensor_msgs/msg/Image", key=right, image=image).inputs[0].key == right


def test_efforts_have_a_key_of_their_own_and_positions_any(make_contract: Any) -> None:
    joints = "sensor_msgs/msg/JointState"
    with pytest.raises(ContractError, match=r"call it observation\.effort$"):
        make_contract(joints, field="effort", key="observation.points.effort")
    for key in ("observation.effort", "observation.effort.left"):
        assert make_contract(joints, field="effort", key=key).inputs[0].key == key
    assert make_contract(joints, field="position", key="observation.anything").inputs[0].key == "observation.anything"


def test_radar_points_may_come_as_a_cloud_with_the_radar_s_fields(make_contract: Any) -> None:
    points = {"count": 64, "fields": ["x", "y", "vx", "vy", "rcs"]}
    contract = make_contract("sensor_msgs/msg/PointCloud2", key="observation.radar.front", points=points)
    assert contract.features["observation.radar.front"].names == ("x", "y", "vx", "vy", "rcs")
