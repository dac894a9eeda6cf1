"""The transform between two frames, composed along /tf and /tf_static, interpolated at the tick."""

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from vla_ros.contract import RobotContract, parse_contract
from vla_ros.data_types import ContractError
from vla_ros.messages.forms.transforms import TF_MESSAGE, composed, first_transform, inverted
from vla_ros.messages.message_types import deserialize, serialize, typestore
from vla_ros.messages.samples import header, new
from vla_ros.streams import Assembled, LateSample, ObservationPipeline

MS = 1_000_000
TICK = 1000 * MS
KEY = "observation.tool"
Edge = tuple[int, str, str, list[float], list[float]]


def contract_of(**changes: Any) -> RobotContract:
    spec = {
        "key": KEY,
        "topic": "/tf",
        "type": TF_MESSAGE,
        "transform": {"parent": "base", "child": "tool"},
        "max_age_s": 0.2,
        **changes,
    }
    action = {
        "representation": "joint_position",
        "names": ["j"],
        "units": ["rad"],
        "record": {"topic": "/r", "type": "sensor_msgs/msg/JointState", "max_age_s": 0.1},
        "sinks": [{"topic": "/s", "type": "std_msgs/msg/Float64MultiArray"}],
    }
    return parse_contract({"robot_type": "r", "fps": 20, "inputs": [spec], "action": action}, "r.yaml")


def message(*edges: Edge) -> Any:
    stamped = []
    for stamp_ns, parent, child, move, turn in edges:
        transform = new(
            "geometry_msgs/msg/Transform",
            new("geometry_msgs/msg/Vector3", *move),
            new("geometry_msgs/msg/Quaternion", *turn),
        )
        stamped.append(new("geometry_msgs/msg/TransformStamped", header(stamp_ns, parent), child, transform))
    return new(TF_MESSAGE, stamped)


class Robot:
    """A pipeline, and what is published to it."""

    def __init__(self, **changes: Any) -> None:
        self.pipeline = ObservationPipeline(contract_of(**changes), deserialize)
        self.static = next(i for i, spec in enumerate(self.pipeline.specs) if spec.is_static)

    def tf(self, *edges: Edge) -> None:
        self.pipeline.push(0, serialize(message(*edges), TF_MESSAGE), max((edge[0] for edge in edges), default=0))

    def tf_static(self, *edges: Edge) -> None:
        self.pipeline.push(self.static, serialize(message(*edges), TF_MESSAGE), 1)

    def value(self, tick_ns: int = TICK) -> np.ndarray:
        assembled = self.pipeline.assemble(tick_ns)
        assert assembled.frame is not None, [str(m) for m in assembled.missing]
        return np.asarray(assembled.frame.values[KEY])

    def reason(self, tick_ns: int = TICK) -> str:
        assembled: Assembled = self.pipeline.assemble(tick_ns)
        (missing,) = assembled.missing
        return str(missing)


def about_z(degrees: float) -> list[float]:
    return [float(v) for v in Rotation.from_euler("z", degrees, degrees=True).as_quat()]


NONE = [0.0, 0.0, 0.0]
HOLD = {"alignment": {"method": "hold"}}


def test_the_transform_is_composed_of_moving_and_static_edges() -> None:
    robot = Robot(**HOLD)
    robot.tf_static((0, "flange", "tool", [0.0, 0.0, 0.1], about_z(0)))
    robot.tf((990 * MS, "base", "link", [1.0, 0.0, 0.0], about_z(90)))
    robot.tf((980 * MS, "link", "flange", [0.5, 0.0, 0.0], about_z(0)))
    np.testing.assert_allclose(robot.value(), np.float32([1.0, 0.5, 0.1, *about_z(90)]), atol=1e-6)


def test_a_frame_on_another_branch_is_reached_over_the_common_one() -> None:
    robot = Robot(transform={"parent": "camera", "child": "tool"}, **HOLD)
    robot.tf_static((0, "base", "camera", [0.0, 0.0, 1.0], about_z(180)))
    robot.tf((1000 * MS, "base", "tool", [0.3, 0.0, 0.0], about_z(0)))
    np.testing.assert_allclose(robot.value()[:3], [-0.3, 0.0, -1.0], atol=1e-6)


def test_the_reference_is_scipy_s_product_of_transforms() -> None:
    rng = np.random.default_rng(3)
    turns = Rotation.random(3, random_state=3)
    moves = rng.normal(size=(3, 3))
    robot = Robot(transform={"parent": "a", "child": "d"}, **HOLD)
    for (parent, child), move, turn in zip(("ab", "bc", "cd"), moves, turns.as_quat(), strict=True):
        robot.tf((1000 * MS, parent, child, move.tolist(), turn.tolist()))
    matrix = np.eye(4)
    for move, turn in zip(moves, turns.as_matrix(), strict=True):
        matrix = matrix @ np.block([[turn, move[:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
    value = robot.value()
    np.testing.assert_allclose(value[:3], matrix[:3, 3], atol=1e-6)
    np.testing.assert_allclose(Rotation.from_quat(value[3:]).as_matrix(), matrix[:3, :3], atol=1e-6)


def test_between_two_samples_it_is_interpolated_and_waited_for() -> None:
    robot = Robot()
    robot.tf((990 * MS, "base", "tool", [0.0, 0.0, 0.0], about_z(0)))
    assert not robot.pipeline.complete(TICK, TICK)
    assert "to interpolate, a sample within 0.2 s after the tick is needed" in robot.reason()
    robot.tf((1010 * MS, "base", "tool", [1.0, 0.0, 0.0], about_z(60)))
    assert robot.pipeline.complete(TICK, TICK)
    np.testing.assert_allclose(robot.value(), np.float32([0.5, 0.0, 0.0, *about_z(30)]), atol=1e-6)


def test_publishers_whose_stamps_are_behind_each_other_are_both_heard() -> None:
    robot = Robot(**HOLD)
    for stamp in (960, 980, 1000):
        robot.tf((stamp * MS, "base", "link", [stamp, 0.0, 0.0], about_z(0)))
        robot.tf(((stamp - 7) * MS, "link", "tool", [0.0, stamp, 0.0], about_z(0)))
    assert robot.value()[:2].tolist() == [1000, 1000]


def test_an_edge_that_is_old_or_absent_is_missing_by_the_names_of_its_frames() -> None:
    robot = Robot(**HOLD)
    assert robot.reason() == f"'{KEY}': nothing received on /tf (limit 0.2 s)"
    robot.tf((700 * MS, "base", "link", NONE, about_z(0)))
    assert "no transform names the frame 'tool'; they name base, link." in robot.reason()
    robot.tf((990 * MS, "link", "tool", NONE, about_z(0)))
    assert robot.reason() == (f"'{KEY}': the transform of 'link' in 'base' is too old (age 0.300 s, limit 0.2 s)")
    robot.tf((995 * MS, "base", "link", NONE, about_z(0)))
    assert robot.value().tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_frames_of_two_trees_are_not_connected() -> None:
    robot = Robot(**HOLD)
    robot.tf((990 * MS, "base", "link", NONE, about_z(0)), (990 * MS, "map", "tool", NONE, about_z(0)))
    assert "no transforms lead from 'base' to 'tool'" in robot.reason()


def test_a_loop_of_frames_ends() -> None:
    robot = Robot(**HOLD)
    robot.tf((990 * MS, "a", "b", NONE, about_z(0)), (990 * MS, "b", "a", NONE, about_z(0)))
    robot.tf((990 * MS, "base", "link", NONE, about_z(0)))
    assert "no transform names the frame 'tool'" in robot.reason()


@pytest.mark.parametrize(
    ("edge", "error"),
    [
        (
            (1, "base", "tool", [np.nan, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]),
            "translation of 'tool' in 'base' is not finite",
        ),
        ((1, "base", "tool", NONE, [0.0, 0.0, 0.0, 0.0]), "quaternion of length 0"),
        ((1, "tool", "tool", NONE, [0.0, 0.0, 0.0, 1.0]), "they must be two frames"),
    ],
)
def test_a_transform_that_is_none_is_refused_and_the_next_is_read(edge: Edge, error: str) -> None:
    robot = Robot(**HOLD)
    robot.tf((990 * MS, *edge[1:]))
    assert error in robot.reason()
    robot.tf((995 * MS, "base", "tool", NONE, about_z(0)))
    assert robot.value().tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_static_transforms_outlive_a_new_episode() -> None:
    robot = Robot(**HOLD)
    robot.tf_static((0, "link", "tool", [0.0, 0.0, 0.5], about_z(0)))
    robot.pipeline.clear()
    robot.tf((990 * MS, "base", "link", [1.0, 0.0, 0.0], about_z(0)))
    assert robot.value()[:3].tolist() == [1.0, 0.0, 0.5]


def test_the_fields_of_the_contract_are_what_the_policy_gets() -> None:
    changes = {"fields": ["translation.z", "rotation.w"], "names": ["height", "qw"]}
    robot = Robot(**changes, **HOLD)
    robot.tf((990 * MS, "base", "tool", [1.0, 2.0, 3.0], about_z(0)))
    assert robot.value().tolist() == [3.0, 1.0]


@pytest.mark.parametrize(
    ("transform", "error"),
    [
        ({"parent": "base", "child": "base"}, r"transform.child 'base' is the parent too"),
        ({"parent": "/base", "child": "tool"}, r"transform.parent '/base' must have no leading '/'"),
        ({"parent": "base"}, r"transform.child is required and missing"),
        ({"parent": "base", "child": "tool", "topic": "/tf"}, r"transform.topic is not a field"),
    ],
)
def test_a_wrong_transform_is_refused(transform: dict[str, str], error: str) -> None:
    with pytest.raises(ContractError, match=error):
        contract_of(transform=transform)


def test_other_frames_make_another_contract() -> None:
    assert contract_of().hash != contract_of(transform={"parent": "base", "child": "camera"}).hash


def test_a_transform_undoes_its_inverse() -> None:
    value = np.array([1.0, -2.0, 0.5, *Rotation.random(random_state=1).as_quat()])
    identity = composed(value, inverted(value))
    np.testing.assert_allclose(np.abs(identity), [0, 0, 0, 0, 0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("little", [True, False])
def test_the_first_transform_is_read_from_the_bytes(little: bool) -> None:
    edges = [(123 * MS, "a_parent", "a child", NONE, about_z(0)), (5, "x", "y", NONE, about_z(0))]
    raw = bytes(typestore().serialize_cdr(message(*edges), TF_MESSAGE, little_endian=little))
    assert first_transform(raw) == (123 * MS, "a child")
    assert first_transform(bytes(typestore().serialize_cdr(message(), TF_MESSAGE, little_endian=little))) == (0, "")


def test_a_late_message_is_named_by_its_first_child_frame() -> None:
    robot = Robot(**HOLD)
    edges: list[Edge] = [
        (990 * MS, "base", "link", NONE, about_z(0)),
        (990 * MS, "link", "tool", NONE, about_z(0)),
    ]
    robot.tf(*edges)
    robot.value()
    robot.tf((998 * MS, "base", "link", NONE, about_z(0)), (1010 * MS, "link", "tool", NONE, about_z(0)))
    robot.tf((1020 * MS, "base", "link", NONE, about_z(0)))
    robot.tf((999 * MS, "base", "elsewhere", NONE, about_z(0)))
    robot.value(TICK + 30 * MS)
    assert robot.pipeline.take_late() == [LateSample("/tf", "link", 998 * MS, TICK)]
