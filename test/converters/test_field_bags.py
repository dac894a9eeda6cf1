"""Bags as they come from the field: clocks that differ and step, late samples, several tasks, damage."""

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.typesys import Stores, get_typestore

from vla_ros.cli.main import main
from vla_ros.contract import RobotContract, load_contract
from vla_ros.converters import convert_bags
from vla_ros.data_types import DatasetError
from vla_ros.datasets import EpisodeDataset

spec = importlib.util.spec_from_file_location("field_rig", Path(__file__).with_name("conftest.py"))
assert spec is not None
assert spec.loader is not None
rig = sys.modules.setdefault("field_rig", importlib.util.module_from_spec(spec))
spec.loader.exec_module(rig)
JOINTS, MS, START, S = rig.JOINTS, rig.MS, rig.START, rig.S
Converted = Callable[..., tuple[Any, EpisodeDataset]]
TF = "tf2_msgs/msg/TFMessage"


def transform(stamp_ns: int, parent: str, child: str, x: float) -> Any:
    value = rig.made(
        "geometry_msgs/msg/Transform",
        rig.made("geometry_msgs/msg/Vector3", x, 0.0, 0.0),
        rig.made("geometry_msgs/msg/Quaternion", 0.0, 0.0, 0.0, 1.0),
    )
    header = rig.made("std_msgs/msg/Header", rig.header(stamp_ns).stamp, parent)
    return rig.made(TF, [rig.made("geometry_msgs/msg/TransformStamped", header, child, value)])


def in_step(dataset: EpisodeDataset, index: int = 0) -> list[int]:
    """The ticks of an episode's rows, after a check that image, state and action are of the same one."""
    image, state, action = rig.numbers(dataset, index)
    assert image == [k % 256 for k in state]
    assert state == action
    return state


@pytest.mark.parametrize("lag_s", [-5.0, -0.9, 0.95, 1.2, 9.9, 12.0, 1e8])
def test_clocks_that_differ_by_the_same_pair_what_belongs_together(
    tmp_path: Path, converted: Converted, lag_s: float
) -> None:
    bag = rig.record(tmp_path / "bag", rig.ticks(60, receive=round(lag_s * S)))
    report, dataset = converted(bag)
    assert in_step(dataset) == list(range(60))
    assert report.episodes[0].clock_offset_s == pytest.approx(lag_s, abs=0.01)
    assert report.episodes[0].late_ticks == 0
    assert f"{report.episodes[0].clock_offset_s:.3f} s after their stamps" in str(report)


def test_a_camera_on_another_clock_is_refused_or_aligned_by_receiving_or_believed(
    tmp_path: Path, converted: Converted
) -> None:
    messages = [
        (t, kind, ns, rig.image(ns - 5 * MS - 1200 * MS, k // 3)) if t == "/cam" else (t, kind, ns, m)
        for k, (t, kind, ns, m) in enumerate(rig.ticks(60))
    ]
    bag = rig.record(tmp_path / "bag", messages)
    with pytest.raises(
        DatasetError, match=r"clocks of its topics differ.*/js 0\.001 s.*/cam 1\.205 s.*--clock receive"
    ):
        converted(bag)
    report, dataset = converted(bag, clock="receive")
    image, state, action = rig.numbers(dataset)
    assert state == action
    assert set(np.subtract(state, image)) == {0}  # received 4 ms apart, which is within the tick
    assert report.episodes[0].clock == "receive"
    assert "aligned by the time of receiving: 1 episodes" in str(report)
    _, believed = converted(bag, clock="header", append=True)
    image, state, _ = rig.numbers(believed, 1)
    assert set(np.subtract(image, state)[:-6]) == {24}  # at the end the last image is held


@pytest.mark.parametrize("step_s", [-600.0, -1.0, -0.2, 0.2, 1.0, 3600.0])
def test_a_step_of_the_stamps_ends_the_episode_and_begins_another(
    tmp_path: Path, converted: Converted, step_s: float
) -> None:
    messages = rig.ticks(50) + rig.ticks(50, first=50, stamp=round(step_s * S))
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert [in_step(dataset, index) for index in range(2)] == [list(range(50)), list(range(50, 100))]
    direction = "back" if step_s < 0 else "forward"
    assert f"header stamps step {direction} by {abs(step_s):.3f} s" in report.notes[0]
    assert report.notes[0] in str(report)


@pytest.mark.parametrize("back_s", [0.5, 1.0, 86_400.0])
def test_a_clock_set_back_does_not_mix_what_came_before_and_after(
    tmp_path: Path, converted: Converted, back_s: float
) -> None:
    moved = -round(back_s * S)
    messages = rig.ticks(50) + rig.ticks(50, first=50, stamp=moved, receive=moved)
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert [in_step(dataset, index) for index in range(2)] == [list(range(50)), list(range(50, 100))]
    assert "recorder's clock steps back" in report.notes[0]


def test_a_clock_set_forward_by_decades_is_jumped(tmp_path: Path, converted: Converted) -> None:
    messages = rig.ticks(20, begin=100 * S) + rig.ticks(40)
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert dataset.lengths == (20, 40)
    assert "the clock jumps forward" in report.notes[0]


def test_a_few_messages_before_the_clock_is_set_are_left_out_and_said(tmp_path: Path, converted: Converted) -> None:
    messages = [("/js", JOINTS, 0, rig.joints(5, 0.0)), *rig.ticks(40)]
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert in_step(dataset) == list(range(40))
    assert any("a part of a bag is left out" in note for note in report.notes)


def test_a_sample_that_was_recorded_late_is_no_hole_but_counted(tmp_path: Path, converted: Converted) -> None:
    late_until = START + 5 * S
    messages = sorted(
        ((t, kind, max(ns, late_until + i) if t == "/js" and 1 * S < ns - START < 5 * S else ns, m)
         for i, (t, kind, ns, m) in enumerate(rig.ticks(120))),
        key=lambda message: message[2],
    )  # fmt: skip
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert in_step(dataset) == list(range(120))
    episode = report.episodes[0]
    assert 60 <= episode.late_ticks <= 80
    assert {late.topic for late in episode.late} == {"/js"}
    assert max(late.late_s for late in episode.late) == pytest.approx(4.0, abs=0.1)
    assert f"{episode.late_ticks} ticks had a sample that was received later" in str(report)


def test_nothing_is_called_late_in_a_bag_in_which_nothing_is(tmp_path: Path, converted: Converted) -> None:
    report, _ = converted(rig.record(tmp_path / "bag", rig.ticks()))
    assert report.episodes[0].late_ticks == 0
    assert report.episodes[0].late == ()
    assert "received later" not in str(report)


def test_topics_written_one_after_the_other_give_the_same_rows(tmp_path: Path, converted: Converted) -> None:
    messages = sorted(rig.ticks(), key=lambda message: message[0])
    _, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert in_step(dataset) == list(range(40))


def test_stamps_out_of_order_are_counted_in_the_line_of_their_topic(tmp_path: Path, converted: Converted) -> None:
    messages = rig.ticks()
    messages += [("/js", JOINTS, START + 210 * i * MS, rig.joints(START + 10 * MS, -1.0)) for i in range(1, 8)]
    messages.sort(key=lambda message: message[2])
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert in_step(dataset) == list(range(40))
    assert "7 of 47 samples left out" in str(report)


def test_images_that_change_their_size_are_named_with_both_and_when(tmp_path: Path, converted: Converted) -> None:
    messages = [
        (t, kind, ns, rig.image(ns - 5 * MS, 7, (48, 32))) if t == "/cam" and ns > START + S else (t, kind, ns, m)
        for t, kind, ns, m in rig.ticks()
    ]
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert "on /cam change from 16x16 to 48x32 (height x width) 1.0" in report.notes[0]
    written = json.loads((dataset.root / "meta/conversion_report.json").read_text())
    assert written["notes"] == list(report.notes)


def extra(n: int, without: range = range(0)) -> list[Any]:
    at = [START + k * 50 * MS for k in range(n) if k not in without]
    return [("/extra", JOINTS, ns + MS, rig.joints(ns, 1.0)) for ns in at]


def test_an_optional_stream_with_a_hole_is_left_out_and_the_bag_stays(tmp_path: Path, converted: Converted) -> None:
    whole = sorted(rig.ticks() + extra(40), key=lambda message: message[2])
    holed = sorted(rig.ticks() + extra(40, range(10, 20)), key=lambda message: message[2])
    bags = [rig.record(tmp_path / name, messages) for name, messages in (("whole", whole), ("holed", holed))]
    report, dataset = converted(*bags)
    assert dataset.lengths == (40, 40)
    assert [item.name for item in report.left_out] == ["observation.extra"]
    assert "holed has no value of it at 8 ticks, the first 0." in report.left_out[0].reason


def test_an_optional_stream_that_is_whole_is_stored(tmp_path: Path, converted: Converted) -> None:
    _, dataset = converted(rig.record(tmp_path / "b", sorted(rig.ticks() + extra(40), key=lambda message: message[2])))
    assert "observation.extra" in dataset.features


def test_two_instructions_in_one_bag_are_two_episodes(tmp_path: Path, converted: Converted) -> None:
    said = [
        ("/instruction", "std_msgs/msg/String", START + at, rig.made("std_msgs/msg/String", text))
        for at, text in ((-MS, "lift the cup"), (20 * 50 * MS - 10 * MS, "put it down"))
    ]
    messages = sorted(rig.ticks() + said, key=lambda message: message[2])
    _, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert [dataset.task(index) for index in range(2)] == ["lift the cup", "put it down"]
    assert [in_step(dataset, index) for index in range(2)] == [list(range(20)), list(range(20, 40))]


@pytest.mark.parametrize("noted", ["", "push the puck"])
def test_the_contract_s_default_never_stands_for_two_tasks(
    tmp_path: Path, counting_rig: RobotContract, noted: str
) -> None:
    bags = []
    for name in ("push-v3", "reach-v3"):
        bags.append(rig.record(tmp_path / name, rig.ticks()))
        (bags[-1] / "episode.json").write_text(json.dumps({"task": name, "instruction": noted}))
    options: Any = {"image_storage": "png", "progress": False}
    report = convert_bags(bags, counting_rig, tmp_path / "a", **options)
    assert [episode.task for episode in report.episodes] == ["push the puck"]
    assert "is of task 'reach-v3' and has no instruction" in report.refused[0].reason
    with pytest.raises(DatasetError, match="--instruction 'reach-v3=…'"):  # appended later, all the same
        convert_bags(bags[1:], counting_rig, tmp_path / "a", append=True, **options)
    given = {"reach-v3": "reach the goal"}
    both = convert_bags(bags, counting_rig, tmp_path / "b", instructions=given, **options)
    assert [episode.task for episode in both.episodes] == ["push the puck", "reach the goal"]


def test_a_damaged_bag_is_refused_and_with_recover_what_it_lacks_is_said(tmp_path: Path, converted: Converted) -> None:
    bag = rig.record(tmp_path / "bag", rig.ticks(2000))
    file = bag / "bag.mcap"
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size * 2 // 3)
    with pytest.raises(DatasetError, match=r"bag\.mcap is cut off .* messages precede the cut.*--recover"):
        converted(bag)
    report, dataset = converted(bag, recover=True)
    assert in_step(dataset) == list(range(dataset.lengths[0]))
    assert any("recovered, bag.mcap: it is cut off" in note for note in report.notes)
    assert any("metadata.yaml counts 6000 messages on all topics" in note for note in report.notes)


def test_ros_1_bags_convert(tmp_path: Path, converted: Converted) -> None:
    store = get_typestore(Stores.ROS1_NOETIC)
    with Ros1Writer(tmp_path / "old.bag") as writer:
        connections: dict[str, Any] = {}
        for number, (topic, kind, ns, message) in enumerate(rig.ticks()):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            time = store.types["builtin_interfaces/msg/Time"](message.header.stamp.sec, message.header.stamp.nanosec)
            head = store.types["std_msgs/msg/Header"](number, time, "")
            names = [name for name in message.__dataclass_fields__ if name not in ("header", "__msgtype__")]
            old = store.types[kind](head, *(getattr(message, name) for name in names))
            writer.write(connections[topic], ns, store.serialize_ros1(old, kind))
    _, dataset = converted(tmp_path / "old.bag")
    assert in_step(dataset) == list(range(40))


def test_the_command_writes_a_report_of_what_it_refused(
    tmp_path: Path, counting_rig: RobotContract, capsys: Any
) -> None:
    bag = rig.record(tmp_path / "bag", [m for m in rig.ticks() if m[0] != "/cmd"])
    common = ["convert", "--contract", counting_rig.source, "--output", str(tmp_path / "out"), "--image-storage", "png"]
    assert main([*common, "--bags", str(bag), "--report", str(tmp_path / "report")]) == 2
    assert "lacks the topic /cmd of 'action'" in capsys.readouterr().err
    written = json.loads((tmp_path / "report/conversion_report.json").read_text())
    assert "lacks the topic /cmd" in written["refused"][0]["reason"]
    assert (tmp_path / "report/conversion_report.png").read_bytes().startswith(b"\x89PNG")
    assert main([*common, "--bags", str(rig.record(tmp_path / "good", rig.ticks()))]) == 0
    assert (tmp_path / "out/meta/conversion_report.png").read_bytes().startswith(b"\x89PNG")


def test_an_end_that_is_left_out_because_its_numbers_are_wrong_is_said(tmp_path: Path, converted: Converted) -> None:
    messages = [
        (t, kind, ns, rig.joints(ns - MS, float("nan"))) if t == "/js" and ns > START + 2 * S else (t, kind, ns, m)
        for t, kind, ns, m in rig.ticks(100)
    ]
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert in_step(dataset) == list(range(40))
    assert "ticks at the end are left out" in report.notes[0]
    assert "'a' is nan" in report.notes[0]


def test_an_optional_stream_on_another_clock_or_of_another_type_is_taken_as_absent(
    tmp_path: Path, converted: Converted
) -> None:
    behind = [(t, kind, ns + 900 * MS, m) for t, kind, ns, m in extra(40)]
    other = [("/extra", "std_msgs/msg/String", START + MS, rig.made("std_msgs/msg/String", "hello"))]
    for name, more in (("behind", behind), ("other", other)):
        messages = sorted(rig.ticks() + more, key=lambda message: message[2])
        report, dataset = converted(rig.record(tmp_path / name, messages), append=name == "other")
        assert in_step(dataset) == list(range(40))
        assert "observation.extra" not in dataset.features
        assert any("taken as absent" in note for note in report.notes)


@pytest.mark.parametrize(("method", "behind_ms"), [("hold", 0), ("hold", 4), ("interpolate", 0)])
def test_joints_of_two_drivers_on_one_topic_are_all_converted(
    tmp_path: Path, counting_rig: RobotContract, method: str, behind_ms: int
) -> None:
    text = Path(counting_rig.source).read_text(encoding="utf-8")
    both = "joints: [a, b]"
    Path(counting_rig.source).write_text(
        text.replace(both, f"{both}, alignment: {{method: {method}}}"), encoding="utf-8"
    )
    contract = load_contract(counting_rig.source)
    messages = []
    for k, (topic, kind, receive_ns, message) in enumerate(rig.ticks(60)):
        if topic != "/js":
            messages.append((topic, kind, receive_ns, message))
            continue
        stamp_ns, number = START + k // 3 * 50 * MS, float(k // 3)
        for name, value, behind in (("a", number, 0), ("finger", 9.0, 1), ("b", -number, behind_ms)):
            arrays = (np.array([value]), np.zeros(0), np.zeros(0))
            part = rig.made(JOINTS, rig.header(stamp_ns - behind * MS), [name], *arrays)
            messages.append((topic, kind, receive_ns, part))
    bag = rig.record(tmp_path / "bag", messages)
    convert_bags([bag], contract, tmp_path / "dataset", image_storage="png", progress=False)
    dataset = EpisodeDataset(tmp_path / "dataset")
    ticks = in_step(dataset)
    assert len(ticks) >= 59
    state = dataset.episode(0).values["observation.state"]
    np.testing.assert_array_equal(state[:, 1], -state[:, 0])


@pytest.mark.parametrize("method", ["hold", "interpolate"])
def test_transforms_of_several_publishers_are_converted_with_those_that_never_change(
    tmp_path: Path, counting_rig: RobotContract, method: str
) -> None:
    text = Path(counting_rig.source).read_text(encoding="utf-8")
    tool = (
        "  - {key: observation.tool, topic: /tf, type: tf2_msgs/msg/TFMessage, max_age_s: 0.3, "
        f"transform: {{parent: base, child: tool}}, alignment: {{method: {method}}}}}\naction:\n"
    )
    Path(counting_rig.source).write_text(text.replace("action:\n", tool), encoding="utf-8")

    messages = [("/tf_static", TF, START, transform(START, "flange", "tool", 1000.0))]
    for k in range(60):
        stamp_ns = START + k * 50 * MS
        messages += rig.tick(k, stamp_ns, stamp_ns)
        messages.append(("/tf", TF, stamp_ns + MS, transform(stamp_ns, "base", "link", float(k))))
        # a second publisher, whose stamps are behind the first one's and whose messages come after them
        messages.append(("/tf", TF, stamp_ns + 9 * MS, transform(stamp_ns - 10 * MS, "link", "flange", 0.0)))
    bag = rig.record(tmp_path / "bag", messages)
    convert_bags([bag], load_contract(counting_rig.source), tmp_path / "dataset", image_storage="png", progress=False)
    dataset = EpisodeDataset(tmp_path / "dataset")
    ticks = in_step(dataset)
    assert len(ticks) >= 58
    np.testing.assert_allclose(dataset.episode(0).values["observation.tool"][:, 0], np.array(ticks) + 1000.0)


@pytest.mark.parametrize("kind", ["joints", "transforms"])
def test_one_driver_s_clock_behind_the_others_on_its_topic_is_refused_unless_it_does_not_matter(
    tmp_path: Path, counting_rig: RobotContract, kind: str
) -> None:
    """What another robot or a tool that the contract does not name sends on the topic may be on any clock."""
    path = Path(counting_rig.source)
    text = path.read_text(encoding="utf-8")
    tool = (
        "  - {key: observation.tool, topic: /tf, type: tf2_msgs/msg/TFMessage, max_age_s: 0.3, "
        "transform: {parent: base, child: tool}, alignment: {method: hold}}\naction:\n"
    )
    path.write_text(text.replace("action:\n", tool) if kind == "transforms" else text, encoding="utf-8")
    contract = load_contract(path)

    def driver(stamp_ns: int, receive_ns: int, name: str, value: float) -> Any:
        if kind == "joints":
            message = rig.made(JOINTS, rig.header(stamp_ns), [name], np.array([value]), np.zeros(0), np.zeros(0))
            return ("/js", JOINTS, receive_ns, message)
        message = transform(stamp_ns, "link" if name == "tool" else "base", name, value)
        return ("/tf", TF, receive_ns, message)

    def bag(name: str, behind: str) -> Path:
        messages = []
        names = ("a", "b", "other") if kind == "joints" else ("link", "tool", "other")
        for k in range(60):
            ns = START + k * 50 * MS
            messages += [m for m in rig.tick(k, ns, ns) if kind == "transforms" or m[0] != "/js"]
            messages += [driver(ns - (400 * MS if n == behind else 0), ns + MS, n, float(k)) for n in names]
        return Path(rig.record(tmp_path / name, messages))

    options: Any = {"image_storage": "png", "progress": False}
    with pytest.raises(
        DatasetError, match=rf"clocks of its topics differ.*\({'b' if kind == 'joints' else 'tool'}\) 0.401"
    ):
        convert_bags([bag("one", "b" if kind == "joints" else "tool")], contract, tmp_path / "refused", **options)
    report = convert_bags([bag("two", "other")], contract, tmp_path / "dataset", **options)
    assert report.n_frames == 60
    assert report.episodes[0].late_ticks == 0


def test_a_stretch_whose_clocks_differ_is_left_out_and_the_others_stay(tmp_path: Path, converted: Converted) -> None:
    messages = [
        (t, kind, ns, rig.joints(START + 3600 * S, 0.0)) if t == "/js" and ns < START + 120 * MS else (t, kind, ns, m)
        for t, kind, ns, m in rig.ticks(60)
    ]
    report, dataset = converted(rig.record(tmp_path / "bag", messages))
    assert in_step(dataset) == list(range(3, 60))
    assert any("left out (before the first step): the clocks of its topics differ" in note for note in report.notes)
