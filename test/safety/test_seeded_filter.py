"""Commands begin where the robot is measured; bounds of a pose, of joints and of motions in the tool frame."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vla_ros.contract import JointLimit, LimitsSpec, RobotContract, load_contract
from vla_ros.data_types import ActionChunk, Command, ContractError
from vla_ros.data_types.rotations import convert
from vla_ros.safety import DROPPING, REASONS, Measured, SafetyFilter, StopLatch

SAWYER = load_contract(Path(__file__).parents[2] / "config/robots/metaworld_sawyer.yaml")
PERIOD = 50_000_000
DT = 0.05
JOINTS = ("right_j0", "right_j1")
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])
BOX = {"workspace_min": (-1.0, -1.0, -1.0), "workspace_max": (1.0, 1.0, 1.0)}


def make(representation: str, rotation: str = "none", names: tuple[str, ...] = (), **limits: object) -> RobotContract:
    width = {"none": 0, "rotation_vector": 3, "quaternion": 4, "rot6d": 6}[rotation]
    names = names or tuple(f"n{i}" for i in range(3 + width))
    action = replace(
        SAWYER.action,
        names=names,
        units=("1",) * len(names),
        representation=representation,
        rotation=rotation,
        gripper=None,
        limits=LimitsSpec(**limits),
    )
    with_orientation = replace(
        SAWYER.inputs[2],
        fields=(*SAWYER.inputs[2].fields, *(f"pose.orientation.{axis}" for axis in "xyzw")),
        names=(*SAWYER.inputs[2].names, *"xyzw"),
    )
    inputs = (*SAWYER.inputs[:2], with_orientation, *SAWYER.inputs[3:])
    return replace(SAWYER, inputs=inputs, action=action)


def command(action: object, tick: int = 1, period_ns: int = PERIOD) -> Command:
    return Command(np.asarray(action, dtype=np.float64), tick * PERIOD, period_ns)


def at(x: float, y: float = 0.0, z: float = 0.0, orientation: NDArray[np.float64] = UPRIGHT) -> Measured:
    return Measured(position=np.array([x, y, z]), orientation=orientation)


def turned_about_z(angle: float) -> NDArray[np.float64]:
    return convert([0.0, 0.0, angle], "rotation_vector", "quaternion")


def passed(subject: SafetyFilter, wanted: Command, measured: object = None) -> NDArray[np.float64]:
    result = subject.filter(wanted, measured)
    assert result.command is not None, result.interventions
    return result.command.action


# The first command


def test_the_first_pose_is_one_step_from_where_the_arm_is_measured() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)
    result = subject.filter(command([2.5, 0, 0]), at(0.5))
    assert result.command is not None
    np.testing.assert_allclose(result.command.action, [0.5 + 0.2 * DT, 0, 0])
    assert result.interventions == ("speed",)


def test_the_first_joint_command_is_one_step_from_where_the_joints_are_measured() -> None:
    subject = SafetyFilter(make("joint_position", names=JOINTS, max_angular_speed=0.5), require_measurement=True)
    out = passed(subject, command([2.5, 0.0]), Measured(joints=np.array([0.0, 1.0])))
    np.testing.assert_allclose(out, [0.025, 1.0 - 0.01])


def test_an_acceleration_counts_from_standstill_where_it_is_measured() -> None:
    subject = SafetyFilter(make("pose", max_speed=1.0, max_acceleration=0.4), require_measurement=True)
    assert passed(subject, command([1.0, 0, 0]), at(0.2))[0] == pytest.approx(0.2 + 0.4 * DT * DT)


def test_the_first_step_lasts_until_the_next_command_and_not_for_the_whole_period() -> None:
    contract = replace(make("pose", max_speed=0.2), control_rate_hz=60)
    assert passed(SafetyFilter(contract), command([1, 0, 0]), at(0.0))[0] == pytest.approx(0.2 / 60)


def test_a_turn_begins_at_the_measured_orientation() -> None:
    subject = SafetyFilter(make("pose", "quaternion", max_angular_speed=1.0), require_measurement=True)
    out = passed(subject, command([0, 0, 0, *turned_about_z(2.0)]), at(0, orientation=turned_about_z(1.0)))
    np.testing.assert_allclose(out[3:], turned_about_z(1.05), atol=1e-12)


@pytest.mark.parametrize("measured", [None, Measured(), at(np.nan), at(1e300)], ids=["none", "empty", "nan", "huge"])
def test_without_a_measurement_a_command_is_dropped_where_one_is_required(measured: Measured | None) -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)
    assert subject.needs_measurement
    assert subject.filter(command([0, 0, 0]), measured).interventions == ("position_unknown",)
    assert passed(subject, command([0, 0, 0]), at(0.0))[0] == 0.0
    assert subject.filter(command([0, 0, 0], 2), measured).interventions == ("position_unknown",)


def test_without_a_measurement_the_first_command_is_taken_for_where_the_robot_is() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2, **BOX))
    assert passed(subject, command([3.0, 0, 0], 1))[0] == 1.0
    assert passed(subject, command([-1.0, 0, 0], 2))[0] == pytest.approx(1.0 - 0.01)


def test_a_joint_that_is_not_measured_begins_where_it_is_first_told_to_be() -> None:
    subject = SafetyFilter(make("joint_position", names=JOINTS, max_angular_speed=0.5))
    out = passed(subject, command([1.0, 2.0]), Measured(joints=np.array([np.nan, 2.0])))
    np.testing.assert_allclose(out, [1.0, 2.0])


# Pauses and seeds


@pytest.mark.parametrize("seeds", [True, False], ids=["seeded", "paused"])
def test_after_a_stop_commands_begin_where_the_arm_was_moved_to(seeds: bool) -> None:
    subject = SafetyFilter(make("joint_position", names=JOINTS, max_angular_speed=0.5), require_measurement=True)
    passed(subject, command([0.0, 0.0], 1), Measured(joints=np.zeros(2)))
    moved = Measured(joints=np.array([1.0, 0.0]))
    if seeds:
        subject.seed(moved)
    assert passed(subject, command([1.0, 0.0], 3 if seeds else 30), moved)[0] == 1.0


def test_a_pause_in_which_the_robot_is_held_still_is_a_pause_too() -> None:
    subject = SafetyFilter(make("joint_position", names=JOINTS, max_angular_speed=0.5), require_measurement=True)
    passed(subject, command([0.0, 0.0], 1), Measured(joints=np.zeros(2)))
    for tick in range(2, 30):
        subject.note_standstill(tick * PERIOD)
    moved = Measured(joints=np.array([1.0, 0.0]))
    assert passed(subject, command([1.0, 0.0], 30), moved)[0] == 1.0


def test_until_the_first_command_the_newest_measurement_is_the_seed() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)
    subject.seed(at(0.0))
    assert passed(subject, command([0.5, 0, 0], 100), at(0.5))[0] == 0.5


def test_a_seed_without_a_measurement_takes_that_of_the_next_command() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)
    passed(subject, command([0, 0, 0], 1), at(0.0))
    subject.seed(None)
    assert passed(subject, command([0.5, 0, 0], 2), at(0.5))[0] == 0.5


def test_two_commands_for_one_moment_count_as_one() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)
    for _ in range(5):
        assert passed(subject, command([1, 0, 0], 1), at(0.0))[0] == pytest.approx(0.01)
    for _ in range(5):
        assert passed(subject, command([1, 0, 0], 2), at(0.01))[0] == pytest.approx(0.02)
    assert passed(subject, command([-1, 0, 0], 2), at(0.01))[0] == pytest.approx(0.0)


@pytest.mark.parametrize("act", ["preview", "chunk", "hold"])
def test_looking_moves_nothing_inside(act: str) -> None:
    subject, other = (SafetyFilter(make("pose", max_speed=0.2), require_measurement=True) for _ in range(2))
    for one in (subject, other):
        passed(one, command([0, 0, 0], 1), at(0.0))
    for tick in range(2, 20):
        if act == "preview":
            subject.preview(command([1, 0, 0], tick), at(0.0))
        elif act == "chunk":
            subject.filter_chunk(ActionChunk(np.ones((4, 3)), tick * PERIOD, PERIOD, 1), at(0.0))
        else:
            subject.hold_action(at(0.0))
    assert subject.counts == other.counts
    np.testing.assert_array_equal(
        passed(subject, command([1, 0, 0], 2), at(0)), passed(other, command([1, 0, 0], 2), at(0))
    )


def test_a_preview_is_what_the_filter_would_say() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)
    seen = subject.preview(command([1, 0, 0]), at(0.3))
    result = subject.filter(command([1, 0, 0]), at(0.3))
    assert seen.command is not None
    assert result.command is not None
    np.testing.assert_array_equal(seen.command.action, result.command.action)
    assert seen.interventions == result.interventions


# Not following


def test_an_arm_that_does_not_follow_is_a_fault_until_the_filter_is_seeded() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2), require_measurement=True)  # 0.1 m by default: 0.5 s of it
    x = 0.0
    for tick in range(1, 20):
        result = subject.filter(command([1, 0, 0], tick), at(0.0))
        if result.command is None:
            break
        x = float(result.command.action[0])
    assert result.interventions == ("following_error",)
    assert x == pytest.approx(0.11)
    assert subject.filter(command([0, 0, 0], 100), at(x)).interventions == ("following_error",)
    subject.seed(at(0.0))
    assert passed(subject, command([0, 0, 0], 101), at(0.0))[0] == 0.0


@pytest.mark.parametrize("lag_s", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("late", [False, True])
def test_an_arm_that_follows_late_is_no_fault(lag_s: float, late: bool) -> None:
    subject = SafetyFilter(make("pose", max_speed=0.5), require_measurement=True)
    x = before = 0.0
    for tick in range(1, 60):
        target = 1.0 if tick % 30 < 15 else -1.0
        out = passed(subject, command([target, 0, 0], tick), at(before if late else x))[0]
        before = x
        x = out if lag_s == 0.0 else x + (out - x) * (1 - np.exp(-DT / lag_s))


def test_a_following_error_of_its_own_counts_per_joint() -> None:
    limits = {"max_angular_speed": 1.0, "max_following_error": 0.2}
    subject = SafetyFilter(make("joint_position", names=JOINTS, **limits), require_measurement=True)
    passed(subject, command([0.0, 0.0], 1), Measured(joints=np.zeros(2)))
    passed(subject, command([0.0, 0.0], 2), Measured(joints=np.array([0.19, 0.19])))
    result = subject.filter(command([0.0, 0.0], 3), Measured(joints=np.array([0.0, 0.21])))
    assert result.interventions == ("following_error",)


def test_a_displacement_against_a_contact_is_a_fault_only_if_the_contract_says_so() -> None:
    push = make("displacement", max_speed=0.2, **BOX)
    strict = replace(push, action=replace(push.action, limits=replace(push.action.limits, max_following_error=0.05)))
    free, watched = SafetyFilter(push), SafetyFilter(strict)
    for tick in range(1, 40):
        assert free.filter(command([0, 0, -0.01], tick), at(0)).interventions == ()
    said = [watched.filter(command([0, 0, -0.01], tick), at(0)).interventions for tick in range(1, 10)]
    assert said[:6] == [()] * 6
    assert said[-1] == ("following_error",)


def test_a_contact_does_not_use_up_the_workspace() -> None:
    subject = SafetyFilter(make("displacement", max_speed=0.2, **BOX))
    for tick in range(1, 200):  # it pushes down on something 0.1 m above the floor of the box
        assert passed(subject, command([0, 0, -0.01], tick), at(0, 0, -0.9))[2] == -0.01


# Walls


def test_where_the_reference_is_at_the_wall_a_late_measurement_opens_no_way_out() -> None:
    subject = SafetyFilter(make("displacement", max_speed=0.5, **BOX))
    x = before = 0.9
    for tick in range(1, 20):
        out = passed(subject, command([0.02, 0, 0], tick), at(before))
        before, x = x, x + out[0]
    assert x == pytest.approx(1.0, abs=1e-9)


def test_several_commands_in_a_period_move_the_reference_by_the_time_between_them() -> None:
    contract = replace(make("displacement", **BOX), fps=10, control_rate_hz=20)
    subject, x, before = SafetyFilter(contract), 0.9, 0.9
    for tick in range(1, 60):
        out = passed(subject, command([0.04, 0, 0], tick, 2 * PERIOD), at(before))
        before, x = x, x + out[0] / 2  # executed for half of its period, then replaced
        assert x <= 1.0 + 1e-9
    assert x == pytest.approx(1.0, abs=1e-6)


def test_a_pose_brakes_before_the_wall_within_its_acceleration() -> None:
    subject, velocities = SafetyFilter(make("pose", max_speed=0.5, max_acceleration=0.5, **BOX)), [0.0]
    x = passed(subject, command([0.0, 0, 0], 0))[0]
    for tick in range(1, 120):
        out = passed(subject, command([5.0, 0, 0], tick))[0]
        velocities.append((out - x) / DT)
        x = out
    assert x == pytest.approx(1.0)
    assert np.abs(np.diff(velocities)).max() <= 0.5 * DT + 1e-9


def test_a_reversal_at_the_wall_does_not_lead_through_it() -> None:
    subject = SafetyFilter(make("pose", max_speed=1.0, max_acceleration=0.5, **BOX))
    passed(subject, command([0.0, 0, 0], 0))
    furthest, turned = 0.0, False
    for tick in range(1, 200):
        turned = turned or furthest > 0.97
        furthest = max(furthest, passed(subject, command([-1.0 if turned else 1.0, 0, 0], tick))[0])
    assert furthest <= 1.0


@pytest.mark.parametrize(("x", "reasons"), [(1.009, ("workspace",)), (1.011, ("outside_workspace",))])
def test_a_pose_from_outside_is_dropped_unless_one_step_leads_back(x: float, reasons: tuple[str, ...]) -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2, **BOX), require_measurement=True)
    result = subject.filter(command([5.0, 0, 0]), at(x))
    assert result.interventions == reasons
    if result.command is not None:
        assert result.command.action[0] == 1.0


def test_from_just_outside_the_way_back_keeps_to_the_speed() -> None:
    subject = SafetyFilter(make("pose", max_speed=0.2, **BOX), require_measurement=True)
    out = passed(subject, command([0.9, 1.0, 0]), at(1.008))
    assert out[0] <= 1.0
    assert np.linalg.norm(out - [1.008, 0, 0]) <= 0.01 * (1 + 1e-9)


def test_joints_outside_their_range_are_dropped_unless_one_step_leads_back() -> None:
    limits = {"lower": (-1.0, -1.0), "upper": (1.0, 1.0), "max_angular_speed": 0.5}
    subject = SafetyFilter(make("joint_position", names=JOINTS, **limits), require_measurement=True)
    assert subject.filter(command([0.0, 0.0]), Measured(joints=np.array([0.0, 1.03]))).interventions == (
        "outside_range",
    )
    out = passed(subject, command([0.0, 2.0]), Measured(joints=np.array([0.0, 1.02])))
    np.testing.assert_allclose(out, [0.0, 1.0])


def test_a_joint_brakes_before_its_bound_within_its_acceleration() -> None:
    limit = JointLimit("right_j0", -1.0, 1.0, 2.0, 1.0)
    subject, velocities = SafetyFilter(make("joint_position", names=JOINTS, joint_limits=(limit,))), [0.0]
    x = passed(subject, command([0.0, 0.0], 0))[0]
    for tick in range(1, 120):
        out = passed(subject, command([3.0, 0.0], tick))[0]
        velocities.append((out - x) / DT)
        x = out
    assert x == pytest.approx(1.0)
    assert np.abs(np.diff(velocities)).max() <= 1.0 * DT + 1e-9


def test_of_several_limits_of_a_joint_the_tightest_holds() -> None:
    contract = make(
        "joint_position",
        names=JOINTS,
        max_angular_speed=1.0,
        max_joint_speed=(2.0, 0.4),
        joint_limits=(JointLimit("right_j0", max_velocity=0.5),),
    )
    for target, expected in (([1.0, 0.0], [0.025, 0.0]), ([0.0, 1.0], [0.0, 0.02])):
        out = passed(SafetyFilter(contract), command(target), Measured(joints=np.zeros(2)))
        np.testing.assert_allclose(out, expected)


def test_ranges_that_share_no_value_are_refused() -> None:
    limits = {"lower": (1.0, -1.0), "upper": (2.0, 1.0), "joint_limits": (JointLimit("right_j0", -1.0, 0.5),)}
    with pytest.raises(ContractError, match=r"leave joint 'right_j0' no range"):
        SafetyFilter(make("joint_position", names=JOINTS, **limits))
    with pytest.raises(ContractError, match=r"action\.limits leave 'n0' nothing: its range and the workspace"):
        SafetyFilter(make("pose", lower=(2.0, -1.0, -1.0), upper=(3.0, 1.0, 1.0), **BOX))


# Motions in the tool frame


def in_tool(representation: str = "twist", rotation: str = "none", **limits: object) -> RobotContract:
    contract = make(representation, rotation, **limits)
    return replace(contract, tool_frame="tool0", action=replace(contract.action, frame="tool0"))


UPSIDE_DOWN = convert([np.pi, 0.0, 0.0], "rotation_vector", "quaternion")


def test_a_gripper_that_points_down_is_not_driven_into_the_floor_and_may_escape() -> None:
    subject = SafetyFilter(in_tool(**BOX))
    down = subject.filter(command([0, 0, 0.5], 1), at(0, 0, -1.0, UPSIDE_DOWN))
    assert down.command is not None
    np.testing.assert_allclose(down.command.action, 0.0, atol=1e-12)
    assert down.interventions == ("workspace",)
    up = subject.filter(command([0, 0, -0.5], 2), at(0, 0, -1.0, UPSIDE_DOWN))
    assert up.interventions == ()


def test_a_bounded_motion_in_the_tool_frame_keeps_to_its_ranges() -> None:
    limits = {"lower": (-1.0, -0.1, -1.0), "upper": (1.0, 0.1, 1.0), **BOX}
    orientation = turned_about_z(np.pi / 4)  # removing x in the base frame leaves as much y in the tool's as x
    out = passed(SafetyFilter(in_tool(**limits)), command([1.0, 0.0, 0.0]), at(1.0, orientation=orientation))
    assert abs(out[1]) <= 0.1 + 1e-12
    assert abs((convert_to_base(out, orientation))[0]) <= 1e-9


def convert_to_base(vector: NDArray[np.float64], orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    x, y = vector[0], vector[1]
    angle = convert(orientation, "quaternion", "rotation_vector")[2]
    return np.array([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, vector[2]])


def test_without_the_orientation_a_motion_in_the_tool_frame_is_dropped() -> None:
    subject = SafetyFilter(in_tool(**BOX))
    assert subject.filter(command([0, 0, 0]), Measured(position=np.zeros(3))).interventions == ("position_unknown",)
    assert subject.filter(command([0, 0, 0]), np.zeros(3)).interventions == ("position_unknown",)


def test_a_box_that_cannot_be_held_is_refused() -> None:
    position_only = replace(in_tool(**BOX), inputs=SAWYER.inputs)
    with pytest.raises(
        ContractError, match=r"action\.frame 'tool0' is the tool's, and its orientation is not measured"
    ):
        SafetyFilter(position_only)
    with pytest.raises(ContractError, match=r"a pose in it cannot be held to a workspace"):
        SafetyFilter(in_tool("pose", **BOX))


def test_a_chunk_in_the_tool_frame_turns_with_the_tool() -> None:
    subject = SafetyFilter(in_tool("displacement", "rotation_vector", **BOX))
    step = [0.1, 0.0, 0.0, 0.0, 0.0, np.pi / 2]  # a square: along, and turn
    chunk, names = subject.filter_chunk(ActionChunk(np.array([step] * 4), PERIOD, PERIOD, 1), at(0.9, 0.95))
    assert chunk is not None
    assert names == ("workspace",)
    np.testing.assert_allclose(chunk.actions_HA[:, 0], [0.1, 0.05, 0.1, 0.1], atol=1e-9)


# Numbers and rotations


@pytest.mark.parametrize("scale", [0.5, 3.0, 100.0])
def test_a_quaternion_leaves_at_unit_length_in_commands_and_chunks(scale: float) -> None:
    subject = SafetyFilter(make("pose", "quaternion"))
    action = np.array([0.0, 0, 0, *(scale * np.array([0.6, 0.0, 0.0, -0.8]))])
    np.testing.assert_allclose(passed(subject, command(action))[3:], [0.6, 0.0, 0.0, -0.8])
    chunk, names = subject.filter_chunk(ActionChunk(np.stack([action] * 3), 2 * PERIOD, PERIOD, 1))
    assert chunk is not None
    assert names == ()
    np.testing.assert_allclose(np.linalg.norm(chunk.actions_HA[:, 3:], axis=1), 1.0)


def test_a_turn_by_more_than_pi_in_a_period_counts_whole() -> None:
    subject = SafetyFilter(make("displacement", "rotation_vector", max_angular_speed=1.0))
    out = passed(subject, command([0, 0, 0, 0, 0, 2 * np.pi - 0.01]))
    np.testing.assert_allclose(out[3:], [0, 0, 0.05])


@pytest.mark.parametrize("representation", ["displacement", "twist", "pose"])
@pytest.mark.parametrize("value", [1e13, 1e160, 1e308, -1e308])
def test_a_number_too_large_to_compute_with_is_none(representation: str, value: float) -> None:
    subject = SafetyFilter(make(representation, max_speed=0.1, max_acceleration=0.1))
    assert subject.filter(command([value, -value, 0]), at(0)).interventions == ("not_finite",)


@pytest.mark.parametrize("size", [0, 1, 2, 4, 7])
def test_a_measurement_of_another_size_is_not_known(size: int) -> None:
    for contract in (make("pose", max_speed=0.2), make("twist", **BOX)):
        result = SafetyFilter(contract, require_measurement=True).filter(command([0, 0, 0]), np.zeros(size))
        assert result.interventions == ("position_unknown",)
    joints = SafetyFilter(make("joint_position", names=("right_j0", "right_j1", "right_j2"), max_angular_speed=1.0))
    assert joints.filter(command([0, 0, 0]), np.zeros(size)).command is not None


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_numbers_of_another_type_are_bounded_too(dtype: type) -> None:
    subject = SafetyFilter(make("displacement", max_speed=0.2))
    out = passed(subject, Command(np.array([1, 0, 0], dtype), PERIOD, PERIOD))
    np.testing.assert_allclose(out, [0.01, 0, 0])


@pytest.mark.parametrize("period_ns", [0, -PERIOD])
def test_a_command_without_a_period_lasts_until_the_next(period_ns: int) -> None:
    subject = SafetyFilter(make("displacement", max_speed=0.2, **BOX))
    assert passed(subject, command([1.0, 0, 0], 1, period_ns), at(0))[0] == pytest.approx(0.01)


# Standing still


def test_to_hold_a_pose_is_to_stay_where_it_was_told_to_be_or_where_it_is() -> None:
    subject = SafetyFilter(make("pose", "quaternion", max_speed=0.2, max_angular_speed=1.0), require_measurement=True)
    assert subject.hold_action(None) is None
    np.testing.assert_allclose(subject.hold_action(at(0.3)), [0.3, 0, 0, *UPRIGHT])
    told = passed(subject, command([1, 0, 0, *UPRIGHT]), at(0.3))
    np.testing.assert_allclose(subject.hold_action(at(0.25)), told)
    np.testing.assert_allclose(subject.hold_action(None), told)
    np.testing.assert_allclose(subject.hold_action(at(0.9))[:3], [0.9, 0, 0])


def test_without_a_speed_limit_a_pose_is_held_where_it_is_measured() -> None:
    subject = SafetyFilter(make("pose", **BOX), require_measurement=True)
    passed(subject, command([1, 0, 0]), at(0.0))
    np.testing.assert_allclose(subject.hold_action(at(0.1)), [0.1, 0, 0])


def test_to_hold_joints_is_to_keep_the_gripper_as_commanded() -> None:
    contract = make("joint_position", names=("right_j0", "gripper_opening"), max_angular_speed=0.5)
    gripper = replace(SAWYER.action.gripper, name="gripper_opening")  # type: ignore[type-var]
    subject = SafetyFilter(replace(contract, action=replace(contract.action, gripper=gripper)))
    passed(subject, command([0.0, 1.0]), Measured(joints=np.array([0.0, 0.5])))
    np.testing.assert_allclose(subject.hold_action(Measured(joints=np.array([0.0, 0.6]))), [0.0, 1.0])
    np.testing.assert_allclose(subject.hold_action(Measured(joints=np.array([2.0, 0.6]))), [2.0, 1.0])


def test_a_gripper_that_cannot_close_is_no_fault_and_is_not_slowed_down() -> None:
    contract = make("joint_position", names=("right_j0", "gripper_opening"), max_angular_speed=0.5)
    gripper = replace(SAWYER.action.gripper, name="gripper_opening")  # type: ignore[type-var]
    subject = SafetyFilter(replace(contract, action=replace(contract.action, gripper=gripper)))
    for tick in range(1, 20):
        out = passed(subject, command([0.0, 1.0], tick), Measured(joints=np.array([0.0, 0.0])))
        assert out[1] == 1.0


def test_to_hold_a_motion_is_zero_with_no_turn() -> None:
    subject = SafetyFilter(make("displacement", "rot6d"))
    np.testing.assert_allclose(subject.hold_action(None), [0, 0, 0, 1, 0, 0, 0, 1, 0])
    assert SafetyFilter(SAWYER).hold_action(None) is None  # nothing is known of the gripper
    subject = SafetyFilter(SAWYER)
    passed(subject, command([0.001, 0, 0, 0.7]), np.array([0.0, 0.6, 0.2]))
    np.testing.assert_allclose(subject.hold_action(None), [0, 0, 0, 0.7])


# The latch and the reasons


def test_a_stop_latch_outlives_the_filters_that_look_at_it() -> None:
    latch = StopLatch()
    first, second = SafetyFilter(SAWYER, latch), SafetyFilter(SAWYER, latch)
    latch.latch()
    assert first.stop.latched
    assert SafetyFilter(SAWYER, latch).filter(command([0, 0, 0, 0]), np.zeros(3)).interventions == ("stop_latched",)
    second.reset()
    assert latch.latched
    latch.reset()
    assert not first.stop.latched


def test_every_reason_has_a_sentence() -> None:
    from vla_ros.safety import reasons

    names = {value for name, value in vars(reasons).items() if name.isupper() and isinstance(value, str)}
    assert names == REASONS.keys()
    assert names >= DROPPING
    assert all(sentence[0].islower() and sentence[-1] != "." for sentence in REASONS.values())


def test_the_shipped_policy_is_not_interfered_with() -> None:
    golden = np.load(Path(__file__).parents[1] / "golden" / "sawyer_commands.npz")
    subject, episode = SafetyFilter(SAWYER), -1
    for row in range(len(golden["episode"])):
        if golden["episode"][row] != episode:
            episode = golden["episode"][row]
            subject.reset()
        wanted = Command(golden["wanted"][row], int(golden["effect_ns"][row]), PERIOD)
        np.testing.assert_array_equal(passed(subject, wanted, golden["position"][row]), golden["passed"][row])
    assert not subject.counts
