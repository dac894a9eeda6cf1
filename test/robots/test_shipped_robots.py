"""Every robot under config/robots is whole: its contract is valid, and its topics become observations and commands."""

import importlib.util
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vla_ros.bags import BagWriter, deserialize
from vla_ros.cli.main import main
from vla_ros.contract import RobotContract, load_contract
from vla_ros.contract.types import message_types
from vla_ros.converters import convert_bags
from vla_ros.data_types import ActionChunk, Command
from vla_ros.datasets import EpisodeDataset
from vla_ros.runtime.measurement import MeasuredRobot
from vla_ros.safety import SafetyFilter
from vla_ros.streams import ActionStream, ObservationPipeline

spec = importlib.util.spec_from_file_location("generated_robot", Path(__file__).with_name("generated.py"))
assert spec is not None
assert spec.loader is not None
generated = sys.modules.setdefault("generated_robot", importlib.util.module_from_spec(spec))
spec.loader.exec_module(generated)

ROOT = Path(__file__).resolve().parents[2]
ROBOTS = ("ur5e", "so101", "aloha", "diff_drive")
START_NS = 1_700_000_000 * generated.SECOND
RATES = {"/joint_states": 500, "/tf": 100}
"""A UR5e's controller publishes at 500 Hz."""


def path_of(robot: str) -> Path:
    return ROOT / "config" / "robots" / f"{robot}.yaml"


def contract_of(robot: str) -> RobotContract:
    return load_contract(path_of(robot))


def bag_of(robot: str, folder: Path, seconds: float = 1.2) -> Path:
    """A bag as the recorder would write it, without DDS."""
    contract = contract_of(robot)
    with BagWriter(folder) as writer:
        for sent in generated.GeneratedRobot(contract, RATES).messages(START_NS, seconds):
            writer.write(sent.topic, sent.type, sent.raw, sent.receive_ns)
    shutil.copy(contract.source, folder / "contract.yaml")
    return folder


@pytest.mark.parametrize("robot", [*ROBOTS, "metaworld_sawyer"])
def test_its_contract_is_valid(robot: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["contract", "check", str(path_of(robot))]) == 0
    assert "a valid contract of" in capsys.readouterr().out
    assert main(["contract", "describe", str(path_of(robot))]) == 0


def test_every_shipped_contract_is_tested() -> None:
    names = {path.stem for path in (ROOT / "config" / "robots").glob("*.yaml")}
    assert set(ROBOTS) <= names


def test_the_docs_name_every_shipped_robot() -> None:
    page = (ROOT / "docs" / "add_a_robot.md").read_text(encoding="utf-8")
    for robot in ROBOTS:
        assert f"`config/robots/{robot}.yaml`" in page


class Driven:
    """What a robot's topics became: frames and recorded actions at ticks, and where the robot was measured last."""

    def __init__(self, contract: RobotContract, seconds: float = 1.5) -> None:
        robot = generated.GeneratedRobot(contract, RATES)
        pipeline, recorded = ObservationPipeline(contract, deserialize), ActionStream(contract, deserialize)
        self.measured = MeasuredRobot(contract, is_needed=True)
        self.measured.read_from(pipeline)
        indices: dict[str, list[int]] = {}
        for index, stream in enumerate(pipeline.specs):
            indices.setdefault(stream.topic, []).append(index)
        parts = [record.topic for record in recorded.records]
        self.frames: list[Any] = []
        self.missing: list[str] = []
        self.actions: list[Any] = []
        step_ns = generated.SECOND // contract.fps
        tick_ns = START_NS + generated.SECOND // 2
        for sent in robot.messages(START_NS, seconds):
            for index in indices.get(sent.topic, []):
                pipeline.push(index, sent.raw, sent.receive_ns)
            for number, topic in enumerate(parts):
                if topic == sent.topic:
                    recorded.push(sent.raw, sent.receive_ns, number)
            while pipeline.complete(tick_ns, sent.receive_ns) and recorded.complete(tick_ns):
                assembled = pipeline.assemble(tick_ns)
                self.missing += map(str, assembled.missing)
                self.frames.append(assembled.frame)
                self.actions.append(recorded.value_at(tick_ns))
                tick_ns += step_ns


@pytest.mark.parametrize("robot", ROBOTS)
def test_its_topics_become_observations_and_recorded_actions(robot: str) -> None:
    contract = contract_of(robot)
    driven = Driven(contract)
    assert len(driven.frames) > 0.6 * contract.fps
    assert driven.missing == []
    for frame, action in zip(driven.frames, driven.actions, strict=True):
        for key, feature in contract.features.items():
            if key != "action":
                assert frame.values[key].shape == feature.shape, key
                assert frame.values[key].dtype == feature.dtype, key
        assert np.isfinite(action).all()
        assert action.shape == (len(contract.action.names),)
    changed = [key for key, value in driven.frames[0].values.items()
               if not np.array_equal(value, driven.frames[-1].values[key], equal_nan=True)]  # fmt: skip
    assert set(changed) == set(contract.features) - {"action"}


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_policy_s_chunk_reaches_the_robot_through_the_filter_with_every_number(robot: str) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("vla_ros_msgs.msg")
    from vla_ros.messages.encoders import encode_chunk, encode_command

    contract = contract_of(robot)
    driven = Driven(contract)
    safety = SafetyFilter(contract, require_measurement=True)
    measured = driven.measured.now()
    safety.seed(measured)
    effect_ns = START_NS + 2 * generated.SECOND
    period_ns = generated.SECOND // contract.fps
    chunk = ActionChunk(np.stack(driven.actions[:4]), effect_ns, period_ns, 1)
    bounded, _ = safety.filter_chunk(chunk, measured)
    assert bounded is not None
    result = safety.filter(Command(chunk.actions_HA[0], effect_ns, period_ns, effect_ns, 1, 0), measured)
    assert result.command is not None, result
    told: dict[str, float] = {}
    for sink in contract.action.sinks:
        kind = message_types()[sink.type].as_sink
        assert kind is not None
        if kind.is_telemetry:
            continue
        message = (
            encode_chunk(sink, contract, bounded)
            if kind.whole_chunk
            else encode_command(sink, contract, result.command)
        )
        told |= numbers_in(message, sink, contract)
    expected = dict(zip(contract.action.names, result.command.action, strict=True))
    assert told.keys() == expected.keys()
    chunked = dict(zip(contract.action.names, bounded.actions_HA[0], strict=True))
    for name, value in told.items():
        assert value in (pytest.approx(expected[name], abs=2e-4), pytest.approx(chunked[name], abs=2e-4)), name


def numbers_in(message: Any, sink: Any, contract: RobotContract) -> dict[str, float]:
    """The action's numbers that a robot reads from a command, by what its topics call them."""
    own = dict(zip(sink.ros_names or sink.names, sink.names, strict=True))
    names = contract.action.motion_names
    if sink.type.endswith("/JointTrajectory"):
        return {own[name]: value for name, value in zip(message.joint_names, message.points[0].positions, strict=True)}
    if sink.type.endswith("/GripperCommand"):
        return {sink.names[0]: message.command.position}
    twist = getattr(message, "twist", message)
    values = [twist.linear.x, twist.linear.y, twist.linear.z, twist.angular.x, twist.angular.y, twist.angular.z]
    if contract.action.representation == "planar_twist":
        values = [twist.linear.x, twist.angular.z]
    else:
        assert message.header.frame_id == contract.action.frame
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize("robot", ROBOTS)
def test_its_bags_become_a_dataset_with_the_cameras_calibration(robot: str, tmp_path: Path) -> None:
    contract = contract_of(robot)
    bag = bag_of(robot, tmp_path / "bag")
    report = convert_bags([bag], contract, tmp_path / "data", image_storage="png", progress=False)
    dataset = EpisodeDataset(tmp_path / "data")
    assert dataset.n_frames > 0.7 * contract.fps
    assert [item.name for item in report.left_out] == []
    assert set(dataset.features) == set(contract.features)
    episode = dataset.episode(0)
    for stream in contract.inputs:
        if stream.info is not None:
            camera = dataset.features[stream.key].camera_info
            assert camera is not None, report.notes
            assert camera["width"] == (stream.raster or stream.image).width  # type: ignore[union-attr]
        if stream.depth is not None:
            values = episode.values[stream.key]
            assert 0 < np.isnan(values).mean() < 0.5, "a hole where nothing was measured"
            assert (np.nanmin(values), np.nanmax(values)) >= (stream.depth.min, stream.depth.min)


def test_a_ur5e_s_joints_are_in_the_contract_s_order_whatever_the_messages_is() -> None:
    contract = contract_of("ur5e")
    robot = generated.GeneratedRobot(contract, RATES)
    sent = deserialize(robot.message("/joint_states", START_NS).raw, "sensor_msgs/msg/JointState")
    assert list(sent.name) == sorted(sent.name)
    joints = next(stream for stream in contract.inputs if stream.key == "observation.state")
    assert list(joints.ros_names[:6]) != sorted(joints.ros_names[:6])
    frame = Driven(contract).frames[0]
    tick_s = frame.stamp_ns / generated.SECOND
    expected = [robot._joint(name, tick_s % 1000.0) for name in joints.names]
    np.testing.assert_allclose(frame.values["observation.state"], expected, atol=2e-3)


def test_the_tool_s_pose_is_composed_of_moving_and_static_transforms() -> None:
    contract = contract_of("ur5e")
    frame = Driven(contract).frames[0]
    tool = frame.values["observation.tool"]
    t = frame.stamp_ns / generated.SECOND % 1000.0
    np.testing.assert_allclose(tool[:3], [0.4 + 0.05 * np.sin(t), 0.1 * np.cos(t), 0.5], atol=1e-3)
    yaw = 0.2 * np.sin(t) + 0.3
    np.testing.assert_allclose(np.abs(tool[3:]), np.abs([0, 0, np.sin(yaw / 2), np.cos(yaw / 2)]), atol=1e-3)
