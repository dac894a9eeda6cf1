"""What depth images, transforms and grippers add to a contract: what counts in its hash, and what is refused."""

from collections.abc import Callable
from typing import Any

import pytest

from vla_ros.contract import (
    AlignmentSpec,
    DepthSpec,
    ImageSpec,
    RobotContract,
    TransformSpec,
    contract_differences,
    parse_contract,
)
from vla_ros.contract.hashing import meaning
from vla_ros.data_types import ContractError

Change = Callable[[Any], Any]


def content() -> Any:
    age = {"max_age_s": 0.1}
    size = {"height": 4, "width": 6, "crop": [0, 0, 8, 12]}
    depth = {"min": 0.1, "max": 4.0}
    image = {"type": "sensor_msgs/msg/Image", **age}
    return {
        "robot_type": "r",
        "fps": 20,
        "inputs": [
            {"key": "observation.images.a", "topic": "/a", "image": size, **image},
            {"key": "observation.images.a_depth", "topic": "/d", "image": {**size, "depth": depth}, **image},
            {
                "key": "observation.tool",
                "topic": "/tf",
                "type": "tf2_msgs/msg/TFMessage",
                "transform": {"parent": "base_link", "child": "tool"},
                **age,
            },
        ],
        "action": {
            "representation": "twist",
            "names": ["x", "y", "z", "g"],
            "units": ["m/s", "m/s", "m/s", "1"],
            "gripper": {"name": "g", "open": 0.0, "closed": 1.0},
            "record": {"topic": "/e", "type": "vla_ros_msgs/msg/EndEffectorAction", **age},
            "sinks": [
                {"topic": "/f", "type": "geometry_msgs/msg/TwistStamped"},
                {
                    "topic": "/n",
                    "type": "control_msgs/action/GripperCommand",
                    "names": ["g"],
                    "open": 0.08,
                    "closed": 0.0,
                },
            ],
        },
    }


def robot(*changes: Change) -> RobotContract:
    changed = content()
    for change in changes:
        change(changed)
    return parse_contract(changed, "r.yaml")


def depth(**fields: Any) -> Change:
    return lambda file: file["inputs"][1]["image"]["depth"].update(fields)


def transform(**fields: Any) -> Change:
    return lambda file: file["inputs"][2]["transform"].update(fields)


def gripper(**fields: Any) -> Change:
    return lambda file: file["action"]["sinks"][1].update(fields)


def entry(index: int, **fields: Any) -> Change:
    return lambda file: file["inputs"][index].update(fields)


def latched_depth(file: Any) -> None:
    del file["inputs"][1]["max_age_s"]
    file["inputs"][1]["alignment"] = {"method": "latch"}


def test_an_image_is_of_colours_or_of_depth() -> None:
    colours, distances, tool = robot().inputs
    crop = (0, 0, 8, 12)
    assert (colours.image, colours.depth) == (ImageSpec(4, 6, crop), None)
    assert (distances.image, distances.depth) == (None, DepthSpec(4, 6, crop, min=0.1, max=4.0, unit=0.001))
    assert (tool.transform, tool.alignment) == (TransformSpec("base_link", "tool"), AlignmentSpec("interpolate"))


@pytest.mark.parametrize(
    "change",
    [
        depth(min=0.2),
        depth(max=5.0),
        depth(unit=0.0001),
        entry(1, image={"height": 4, "width": 5, "depth": {"min": 0.1, "max": 4.0}}),
        transform(parent="world"),
        transform(child="camera"),
        entry(2, alignment={"method": "hold"}),
    ],
)
def test_forms_of_depth_and_frames_of_transforms_count_in_the_hash(change: Change) -> None:
    assert robot(change).hash != robot().hash
    assert contract_differences(robot(), robot(change))


@pytest.mark.parametrize(
    "change",
    [
        depth(unit=0.001),
        transform(static_topic="/robot/tf_static"),
        gripper(open=0.1, closed=0.02, max_effort=5.0),
        entry(2, alignment={"timeline": "header"}),
    ],
)
def test_static_topics_grippers_ends_and_defaults_do_not(change: Change) -> None:
    assert robot(change).hash == robot().hash


def test_an_input_without_depth_and_transform_means_what_it_meant_before_there_were_any() -> None:
    assert {"depth", "transform"}.isdisjoint(meaning(robot().inputs[0]))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (depth(min="0.1"), r"inputs\[1\].image.depth.min expected float, got '0.1'"),
        (depth(max=0.1), r"inputs\[1\].image.depth.max must be above min 0.1, got 0.1"),
        (depth(unit=0), r"inputs\[1\].image.depth.unit must be above 0, got 0"),
        (depth(far=1.0), r"inputs\[1\].image.depth.far is not a field here"),
        (entry(1, key="observation.images.b"), r"inputs\[1\].key 'observation.images.b' is no key of .*_depth"),
        (latched_depth, r"alignment.method 'latch' is for goals: .* not for image.depth"),
        (entry(1, alignment={"method": "interpolate"}), r"'interpolate' needs numbers"),
        (entry(2, alignment={"method": "latch"}), r"'latch' is for goals: .* not for tf2_msgs/msg/TFMessage"),
        (entry(2, fields=[], names=[]), r"inputs\[2\].fields must not be empty"),
        (entry(0, transform={"parent": "a", "child": "b"}), r"inputs\[0\].transform is not a field here"),
        (transform(child=""), r"inputs\[2\].transform.child must not be empty"),
        (transform(static_topic="tf_static"), r"transform.static_topic 'tf_static' is not a full topic name"),
        (
            lambda file: file["action"].update(
                representation="joint_position",
                gripper=None,
                record={"topic": "/j", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.1},
                sinks=file["action"]["sinks"][1:],
                unsent=["x", "y", "z"],
            ),
            r"sinks\[0\].open and closed scale action.gripper, and this number is not it",
        ),
        (gripper(open=None), r"sinks\[1\].open is required and missing; give both ends"),
        (lambda file: file["action"]["sinks"][0].update(open=1.0), r"sinks\[0\].open is not a field here"),
    ],
)
def test_a_form_that_no_message_has_is_refused(change: Change, error: str) -> None:
    with pytest.raises(ContractError, match=error):
        robot(change)
