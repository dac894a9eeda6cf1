"""Bags become datasets: which ticks, which values, what is refused. Bags are made here, without ROS."""

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from vla_ros.bags import BagWriter, deserialize, read_messages, serialize, typestore
from vla_ros.contract import RobotContract, load_contract
from vla_ros.converters import convert_bags, own_contract
from vla_ros.data_types import DatasetError, first_tick_at_or_after, tick_ns
from vla_ros.datasets import EpisodeDataset
from vla_ros.streams import ObservationPipeline

SECOND = 1_000_000_000
MS = 1_000_000
CAMERA, STATE, IMU, LIDAR, ACTION = "/camera", "/joint_states", "/imu", "/points", "/demonstration"
CONTRACT = """
robot_type: rig
fps: 20
max_wait_s: 0.045
inputs:
  - {key: observation.images.front, topic: /camera, type: sensor_msgs/msg/Image, image: {height: 16, width: 24},
     max_age_s: 0.2}
  - {key: observation.state, topic: /joint_states, type: sensor_msgs/msg/JointState, joints: [a, b], max_age_s: 0.1}
  - {key: observation.imu.wrist, topic: /imu, type: sensor_msgs/msg/Imu, window: {samples: 3, period_s: 0.01},
     max_age_s: 0.1, required: false}
  - {key: observation.points.lidar, topic: /points, type: sensor_msgs/msg/PointCloud2, points: {count: 4},
     max_age_s: 0.15, required: false}
action:
  representation: displacement
  names: [dx, dy, dz, gripper]
  units: [m, m, m, "1"]
  gripper: {name: gripper, open: -1.0, closed: 1.0}
  record: {topic: /demonstration, type: vla_ros_msgs/msg/EndEffectorAction, max_age_s: 0.1}
  sinks: [{topic: /action, type: vla_ros_msgs/msg/EndEffectorAction}]
instruction: {default: push the puck}
"""
TYPES = {
    CAMERA: "sensor_msgs/msg/Image",
    STATE: "sensor_msgs/msg/JointState",
    IMU: "sensor_msgs/msg/Imu",
    LIDAR: "sensor_msgs/msg/PointCloud2",
    ACTION: "vla_ros_msgs/msg/EndEffectorAction",
    "/instruction": "std_msgs/msg/String",
}
PERIOD_MS = {CAMERA: 50, STATE: 10, IMU: 10, LIDAR: 100, ACTION: 50}
DELAY_MS = {CAMERA: 18, STATE: 1, IMU: 1, LIDAR: 25, ACTION: 30}
BEGIN = 7 * SECOND


class Sent(NamedTuple):
    topic: str
    stamp_ns: int
    receive_ns: int
    number: float


def make(name: str, *fields: Any) -> Any:
    return typestore().types[name](*fields)


def message(sent: Sent) -> Any:
    """The message of a topic whose content is `sent.number`, so that a test can read what was used."""
    time = make("builtin_interfaces/msg/Time", sent.stamp_ns // SECOND, sent.stamp_ns % SECOND)
    header, x = make("std_msgs/msg/Header", time, "base_link" if sent.topic == ACTION else ""), sent.number
    if sent.topic == CAMERA:
        noise = np.random.default_rng(int(x)).integers(0, 256, 16 * 24 * 3).astype(np.uint8)
        return make("sensor_msgs/msg/Image", header, 16, 24, "rgb8", 0, 24 * 3, noise)
    if sent.topic == STATE:
        empty = np.zeros(0)
        return make("sensor_msgs/msg/JointState", header, ["b", "a"], np.array([-x, x]), empty, empty)
    if sent.topic == IMU:
        vector = make("geometry_msgs/msg/Vector3", x, 2 * x, 3 * x)
        turn = make("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0)
        return make("sensor_msgs/msg/Imu", header, turn, np.zeros(9), vector, np.zeros(9), vector, np.zeros(9))
    if sent.topic == LIDAR:
        fields = [make("sensor_msgs/msg/PointField", n, 4 * i, 7, 1) for i, n in enumerate("xyz")]
        data = np.full((3, 3), x, np.float32).view(np.uint8).reshape(-1)
        return make("sensor_msgs/msg/PointCloud2", header, 1, 3, fields, False, 12, 36, data, True)
    linear = make("geometry_msgs/msg/Vector3", x, 0.0, 0.0)
    zero, period = make("geometry_msgs/msg/Vector3", 0.0, 0.0, 0.0), make("builtin_interfaces/msg/Duration", 0, 50 * MS)
    return make("vla_ros_msgs/msg/EndEffectorAction", header, 0, linear, zero, -1.0, period, time, 0, 0)


def schedule(seconds: float = 1.0, phase_ms: float = 0.0, topics: Iterable[str] = tuple(PERIOD_MS)) -> list[Sent]:
    """Messages of every stream from BEGIN on, numbered by their milliseconds since then."""
    result = []
    for topic in topics:
        for k in range(int(seconds * 1000 / PERIOD_MS[topic]) + 1):
            at_ms = k * PERIOD_MS[topic] + phase_ms
            stamp_ns = BEGIN + round(at_ms * MS)
            result.append(Sent(topic, stamp_ns, stamp_ns + DELAY_MS[topic] * MS, at_ms))
    return sorted(result, key=lambda sent: sent.receive_ns)


def write_bag(path: Path, messages: Iterable[Sent], episode: dict[str, Any] | None = None) -> Path:
    with BagWriter(path) as writer:
        for sent in messages:
            writer.write(sent.topic, TYPES[sent.topic], serialize(message(sent), TYPES[sent.topic]), sent.receive_ns)
    if episode is not None:
        (path / "episode.json").write_text(json.dumps(episode), encoding="utf-8")
    return path


@pytest.fixture
def contract(tmp_path: Path) -> RobotContract:
    path = tmp_path / "rig.yaml"
    path.write_text(CONTRACT, encoding="utf-8")
    return load_contract(path)


@pytest.fixture
def convert(tmp_path: Path, contract: RobotContract) -> Callable[..., EpisodeDataset]:
    def run(*bags: Path, **options: Any) -> EpisodeDataset:
        convert_bags(bags, contract, tmp_path / "dataset", image_storage="png", progress=False, **options)
        return EpisodeDataset(tmp_path / "dataset")

    return run


def test_message_at_the_exact_tick_belongs_to_that_frame(tmp_path: Path, convert: Any) -> None:
    values = convert(write_bag(tmp_path / "bag", schedule())).episode(0).values
    at_ms = np.arange(1, len(values["action"]) + 1) * 50.0  # at 0 the IMU's window would reach before its first sample
    np.testing.assert_array_equal(values["observation.state"], np.stack([at_ms, -at_ms], 1))
    np.testing.assert_array_equal(values["action"][:, 0], at_ms.astype(np.float32))
    np.testing.assert_array_equal(values["action"][:, 3], np.float32(-1.0))
    for k, image in enumerate(values["observation.images.front"]):
        sent = message(Sent(CAMERA, BEGIN, BEGIN, at_ms[k]))
        np.testing.assert_array_equal(image.reshape(-1), sent.data)


def test_message_just_after_the_tick_belongs_to_the_next_frame(tmp_path: Path, convert: Any) -> None:
    values = convert(write_bag(tmp_path / "bag", schedule(phase_ms=0.001))).episode(0).values
    np.testing.assert_allclose(values["action"][:3, 0], [0.001, 50.001, 100.001])
    np.testing.assert_allclose(values["observation.state"][:2, 0], [40.001, 90.001])  # first tick: 50 ms after BEGIN


def test_episode_ends_where_a_stream_or_the_action_ends(tmp_path: Path, contract: RobotContract, convert: Any) -> None:
    late_start = [s for s in schedule() if not (s.topic == ACTION and not 200 <= s.number <= 700)]
    bag = write_bag(tmp_path / "bag", late_start)
    dataset = convert(bag)
    values = dataset.episode(0).values
    np.testing.assert_array_equal(values["action"][:, 0], np.arange(200, 701, 50))
    report = json.loads((dataset.root / "meta/conversion_report.json").read_text())
    assert report["episodes"][0]["trimmed_end"] > 0
    assert report["episodes"][0]["begin_ns"] == BEGIN + 200 * MS


def test_a_stale_action_is_a_hole_and_refuses_the_bag(tmp_path: Path, convert: Any) -> None:
    paused = [s for s in schedule(2.0) if not (s.topic == ACTION and 500 < s.number < 900)]
    with pytest.raises(
        DatasetError, match=r"a hole of 0\.300 s, 0\.550 s into the episode.*/demonstration within 0\.1 s"
    ):
        convert(write_bag(tmp_path / "bag", paused))
    assert not (tmp_path / "dataset").exists()
    assert not list(tmp_path.glob(".dataset*"))


def test_a_hole_in_a_camera_names_stream_time_and_gap(tmp_path: Path, convert: Any) -> None:
    gap = [s for s in schedule(3.0) if not (s.topic == CAMERA and 1000 < s.number < 2000)]
    with pytest.raises(DatasetError, match=r"from 8\.250 s: 'observation\.images\.front'.*/camera.*limit 0\.2 s"):
        convert(write_bag(tmp_path / "bag", gap))


def test_a_refused_bag_does_not_spoil_the_others(tmp_path: Path, contract: RobotContract) -> None:
    gap = [s for s in schedule(3.0) if not (s.topic == CAMERA and 1000 < s.number < 2000)]
    bags = [write_bag(tmp_path / f"bag{i}", m) for i, m in enumerate((schedule(), gap, schedule(0.5)))]
    report = convert_bags(bags, contract, tmp_path / "dataset", progress=False)
    dataset = EpisodeDataset(tmp_path / "dataset")
    assert [item.name for item in report.refused] == [str(bags[1])]
    assert "refused" in str(report)
    assert dataset.lengths == tuple(episode.frames for episode in report.episodes)
    assert len(dataset.lengths) == 2
    assert dataset.stats["action"]["count"][0] == dataset.n_frames


def test_silent_lidar_is_rows_of_nan_and_an_absent_one_no_feature(
    tmp_path: Path, contract: RobotContract, convert: Any
) -> None:
    silent = [s for s in schedule() if not (s.topic == LIDAR and s.number > 300)]
    values = convert(write_bag(tmp_path / "bag", silent)).episode(0).values
    points = values["observation.points.lidar"]
    assert points.shape[1:] == (4, 3)
    assert np.isfinite(points[:8, :3]).all()
    assert np.isnan(points[:, 3]).all()
    assert np.isnan(points[9:]).all()  # 0.15 s after the last scan
    report = convert_bags(
        [write_bag(tmp_path / "without", [s for s in schedule() if s.topic != LIDAR])],
        contract,
        tmp_path / "other",
        progress=False,
    )
    assert [item.name for item in report.left_out] == ["observation.points.lidar"]
    assert "observation.points.lidar" not in EpisodeDataset(tmp_path / "other").features


def test_converter_frames_equal_the_live_pipeline_bit_for_bit(
    tmp_path: Path, contract: RobotContract, convert: Any
) -> None:
    """The live node's loop as oracle: messages in receive order, a tick assembled as soon as it is complete."""
    rng = np.random.default_rng(3)
    jittered = [
        s._replace(receive_ns=s.stamp_ns + int(rng.integers(1, 70)) * MS if s.topic == CAMERA else s.receive_ns)
        for s in schedule(3.0, phase_ms=3.7)
    ]  # some images come later than max_wait_s: their tick goes without them, live and here
    bag = write_bag(tmp_path / "bag", sorted(jittered, key=lambda s: s.receive_ns))
    dataset = convert(bag)
    begin_ns = json.loads((dataset.root / "meta/conversion_report.json").read_text())["episodes"][0]["begin_ns"]
    tick = first_tick_at_or_after(begin_ns, contract.fps)

    live = live_frames(bag, contract, tick)
    episode = dataset.episode(0)
    length = dataset.lengths[0]
    assert length > 40
    for key, values in episode.values.items():
        if key != "action":
            expected = np.stack([frame.values[key] for frame in live[:length]])  # type: ignore[union-attr]
            assert values.dtype == expected.dtype
            np.testing.assert_array_equal(values, expected, err_msg=key)


def test_frames_differ_from_the_live_pipeline_only_where_a_sample_is_listed_as_late(
    tmp_path: Path, contract: RobotContract, convert: Any
) -> None:
    rng = np.random.default_rng(5)
    received = {s.number: s.stamp_ns + int(rng.integers(1, 140)) * MS for s in schedule(4.0, 3.7) if s.topic == CAMERA}
    newest = 0
    for number in sorted(received):  # a camera's images keep their order
        newest = received[number] = max(newest + 1, received[number])
    delayed = [s._replace(receive_ns=received[s.number]) if s.topic == CAMERA else s for s in schedule(4.0, 3.7)]
    bag = write_bag(tmp_path / "bag", sorted(delayed, key=lambda s: s.receive_ns))
    dataset = convert(bag)
    episode = json.loads((dataset.root / "meta/conversion_report.json").read_text())["episodes"][0]
    late = {sample["frame"] for sample in episode["late"]}
    tick = first_tick_at_or_after(episode["begin_ns"], contract.fps)
    live = live_frames(bag, contract, tick)
    differing = set()
    for key, values in dataset.episode(0).values.items():
        if key != "action":
            differing |= {
                k
                for k, value in enumerate(values)
                if live[k] is None or value.tobytes() != live[k].values[key].tobytes()
            }
    assert differing
    assert differing == late
    assert episode["late_ticks"] == len(late)


def live_frames(bag: Path, contract: RobotContract, tick: int) -> list[Any]:
    """Frames from a tick on, as the live node's loop assembles them: as soon as each is complete or overdue."""
    pipeline = ObservationPipeline(contract, deserialize)
    index = {spec.topic: i for i, spec in enumerate(pipeline.specs)}
    frames = []
    for sent in read_messages(bag, list(index)):
        while pipeline.complete(tick_ns(tick, contract.fps), sent.receive_ns - 1):
            frames.append(pipeline.assemble(tick_ns(tick, contract.fps)).frame)
            tick += 1
        pipeline.push(index[sent.topic], sent.raw, sent.receive_ns)
        while pipeline.complete(tick_ns(tick, contract.fps), sent.receive_ns):
            frames.append(pipeline.assemble(tick_ns(tick, contract.fps)).frame)
            tick += 1
    return frames


def test_bag_under_another_clock_gives_the_same_frames(tmp_path: Path, contract: RobotContract) -> None:
    wall_ns = 1_700_000_000 * SECOND
    bags = [
        write_bag(tmp_path / "robot", schedule()),
        write_bag(tmp_path / "wall", [s._replace(receive_ns=s.receive_ns + wall_ns) for s in schedule()]),
    ]
    for bag in bags:
        convert_bags([bag], contract, tmp_path / f"{bag.name}_dataset", image_storage="png", progress=False)
    robot, wall = (EpisodeDataset(tmp_path / f"{bag.name}_dataset").episode(0).values for bag in bags)
    for key in robot:
        np.testing.assert_array_equal(robot[key], wall[key])


def test_failed_demonstrations_are_skipped_unless_wanted(tmp_path: Path, contract: RobotContract) -> None:
    bags = [write_bag(tmp_path / str(i), schedule(), {"success": i != 1}) for i in range(3)]
    report = convert_bags(bags, contract, tmp_path / "a", progress=False)
    assert len(report.episodes) == 2
    assert [s.name for s in report.skipped] == [str(bags[1])]
    assert len(convert_bags(bags, contract, tmp_path / "b", only_successful=False, progress=False).episodes) == 3
    with pytest.raises(DatasetError, match="none of 1 bags became an episode"):
        convert_bags([bags[1]], contract, tmp_path / "c", progress=False)


def test_task_is_the_recorded_instruction_then_the_topics_then_the_contracts(tmp_path: Path, convert: Any) -> None:
    dataset = convert(
        write_bag(tmp_path / "noted", schedule(), {"instruction": "close the drawer"}),
        write_bag(tmp_path / "default", schedule()),
    )
    assert [dataset.task(0), dataset.task(1)] == ["close the drawer", "push the puck"]
    with BagWriter(tmp_path / "said") as writer:
        said = make("std_msgs/msg/String", "open the door")
        writer.write("/instruction", TYPES["/instruction"], serialize(said, TYPES["/instruction"]), BEGIN - MS)
        for sent in schedule():
            writer.write(sent.topic, TYPES[sent.topic], serialize(message(sent), TYPES[sent.topic]), sent.receive_ns)
    shutil.rmtree(dataset.root)
    assert convert(tmp_path / "said").task(0) == "open the door"


def test_contract_and_report_travel_with_the_dataset(tmp_path: Path, contract: RobotContract, convert: Any) -> None:
    dataset = convert(write_bag(tmp_path / "bag", schedule(2.0)))
    assert dataset.contract() == contract
    assert dataset.contract_hash == contract.hash
    report = json.loads((dataset.root / "meta/conversion_report.json").read_text())
    streams = {stream["topic"]: stream for stream in report["episodes"][0]["streams"]}
    assert streams[STATE]["rate_hz"] == pytest.approx(100.0)
    assert streams[CAMERA]["delay_p50_ms"] == 18.0
    assert streams[CAMERA]["longest_gap_s"] == 0.05
    assert streams[LIDAR]["skew_max_ms"] == 50.0
    assert report["n_frames"] == dataset.n_frames
    dataset.contract_path.write_text(CONTRACT.replace("fps: 20", "fps: 10"), encoding="utf-8")
    with pytest.raises(DatasetError, match="edited after the conversion"):
        dataset.contract()


def test_a_dataset_and_a_bag_of_hash_version_1_are_read_and_appended_to_with_a_word(
    tmp_path: Path, contract: RobotContract, convert: Any, caplog: Any
) -> None:
    dataset = convert(write_bag(tmp_path / "bag", schedule(0.5), {"contract_hash": contract.hash_v1}))
    notes = json.loads((dataset.root / "meta/conversion_report.json").read_text())["notes"]
    assert any("1 bags carry the contract's hash of version 1" in note for note in notes)
    (dataset.root / "meta/contract_hash.txt").write_text(contract.hash_v1 + "\n")
    assert EpisodeDataset(dataset.root).contract() == contract
    (word,) = caplog.messages
    assert word.startswith(f"{dataset.root}: contract hash {contract.hash_v1} is of version 1")
    assert convert(tmp_path / "bag", append=True).contract_hash == contract.hash


def test_a_bag_converts_under_any_contract_whose_topics_it_holds_and_that_is_said(
    tmp_path: Path, contract: RobotContract, convert: Any
) -> None:
    bag = write_bag(tmp_path / "bag", schedule(), {"contract_hash": "0123456789abcdef"})
    report = json.loads((convert(bag).root / "meta/conversion_report.json").read_text())
    assert "recorded under contract 0123456789abcdef" in report["notes"][0]
    assert contract.hash in report["notes"][0]


def test_without_a_contract_given_bags_convert_under_their_own(tmp_path: Path, contract: RobotContract) -> None:
    bags = [write_bag(tmp_path / f"bag{i}", schedule()) for i in range(2)]
    with pytest.raises(
        DatasetError, match=r"no contract\.yaml lies beside its messages; give the robot's with --contract"
    ):
        own_contract(bags)
    for bag in bags:
        shutil.copy(contract.source, bag / "contract.yaml")
    assert own_contract(bags) == contract
    (bags[1] / "contract.yaml").write_text(CONTRACT.replace("joints: [a, b]", "joints: [b, a]"), encoding="utf-8")
    with pytest.raises(DatasetError, match=r"bag1/contract\.yaml: differs from .*bag0/contract\.yaml"):
        own_contract(bags)


def test_appending_needs_the_same_contract(tmp_path: Path, contract: RobotContract, convert: Any) -> None:
    bag = write_bag(tmp_path / "bag", schedule(0.5))
    length = convert(bag).lengths[0]
    assert convert(bag, append=True).lengths == (length, length)
    other = tmp_path / "other.yaml"
    other.write_text(CONTRACT.replace("max_age_s: 0.1, required", "max_age_s: 0.2, required"), encoding="utf-8")
    assert load_contract(other).hash == contract.hash  # a limit is no part of the meaning
    other.write_text(CONTRACT.replace("period_s: 0.01", "period_s: 0.02"), encoding="utf-8")
    with pytest.raises(DatasetError, match=f"cannot append, it was made under {contract.hash}"):
        convert_bags([bag], load_contract(other), tmp_path / "dataset", append=True, progress=False)


def test_missing_topic_and_wrong_type_each_give_one_sentence(tmp_path: Path, convert: Any) -> None:
    with pytest.raises(DatasetError, match=r"lacks the topic /camera of 'observation.images.front'"):
        convert(write_bag(tmp_path / "bag", [s for s in schedule() if s.topic != CAMERA]))
    with BagWriter(tmp_path / "wrong") as writer:
        for sent in schedule():
            topic = {CAMERA: STATE, STATE: CAMERA}.get(sent.topic, sent.topic)
            writer.write(topic, TYPES[sent.topic], serialize(message(sent), TYPES[sent.topic]), sent.receive_ns)
    with pytest.raises(
        DatasetError, match=r"/camera holds sensor_msgs/msg/JointState, .* expects sensor_msgs/msg/Image"
    ):
        convert(tmp_path / "wrong")
    with pytest.raises(DatasetError, match="no such bag"):
        convert(tmp_path / "nothing")


def test_wrong_encoding_gives_one_sentence(tmp_path: Path, convert: Any) -> None:
    with BagWriter(tmp_path / "bag") as writer:
        for sent in schedule():
            content = message(sent)
            if sent.topic == CAMERA:
                content.encoding = "yuv9"
            writer.write(sent.topic, TYPES[sent.topic], serialize(content, TYPES[sent.topic]), sent.receive_ns)
    with pytest.raises(DatasetError, match=r"/camera.*yuv9"):
        convert(tmp_path / "bag")


def test_truncated_bag_is_refused(tmp_path: Path, convert: Any) -> None:
    bag = write_bag(tmp_path / "bag", schedule(2.0))
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    with pytest.raises(DatasetError, match="cut off"):
        convert(bag)


def test_unstamped_camera_is_named(tmp_path: Path, convert: Any) -> None:
    with pytest.raises(DatasetError, match="no usable header stamp"):
        convert(write_bag(tmp_path / "bag", [s._replace(stamp_ns=0) if s.topic == CAMERA else s for s in schedule()]))
