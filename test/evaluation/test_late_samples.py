"""With the list of the samples that came too late, live node, replay and dataset see the same at every tick."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vla_ros.bags import BagWriter, deserialize, read_messages
from vla_ros.checkpoint import save_checkpoint
from vla_ros.cli.main import main
from vla_ros.contract import load_contract
from vla_ros.converters import convert_bags
from vla_ros.data_types import NANOSECONDS, DatasetError, Frame, first_tick_at_or_after, tick_ns
from vla_ros.datasets import EpisodeDataset
from vla_ros.evaluation import replay
from vla_ros.evaluation.replay import replay_bag
from vla_ros.policies import build_policy
from vla_ros.processors import ProcessorOptions, Processors
from vla_ros.runtime import PolicyRuntime
from vla_ros.streams import LateSample, ObservationPipeline

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "robots"))
import fake_arm

CAMERA, TOOL, JOINTS = "/overhead/image_raw", "/arm/tool_pose", "/arm/joint_states"
IMAGES, STATE, POSE = "observation.images.overhead", "observation.state", "observation.tool"
MS = 1_000_000
START_NS = 1_700_000_000 * NANOSECONDS
Frames = dict[int, Frame | None]


def late_bag(path: Path, topics: Sequence[str]) -> Path:
    """The arm's bag, in which now and then messages of some topics queue up; they keep their order."""
    rng = np.random.default_rng(8)
    newest: dict[str, int] = {}
    sent = []
    for item in fake_arm.messages(START_NS, 3.0):
        receive_ns = item.receive_ns
        if item.topic in topics:
            rate = fake_arm.STREAMS[item.topic][0]
            late_ms = int(rng.integers(40, 230)) if rng.random() < 4 / rate else int(rng.integers(0, 15))
            receive_ns = max(receive_ns + late_ms * MS, newest.get(item.topic, 0) + 1)
            newest[item.topic] = receive_ns
        sent.append(item._replace(receive_ns=receive_ns))
    with BagWriter(path) as writer:
        for item in sorted(sent, key=lambda item: item.receive_ns):
            writer.write(*item)
    return path


def live(bag: Path) -> tuple[Frames, list[LateSample]]:
    """What a node sees that receives the messages as the recorder did, and what it says came too late."""
    contract = load_contract(fake_arm.CONTRACT)
    pipeline = ObservationPipeline(contract, deserialize)
    index = {spec.topic: i for i, spec in enumerate(pipeline.specs)}
    frames: Frames = {}
    tick = first_tick_at_or_after(START_NS, contract.fps)
    for message in read_messages(bag, [topic for topic in index if topic.startswith(("/arm/j", "/arm/t", "/over"))]):
        for now_ns in (message.receive_ns - 1, message.receive_ns):
            if now_ns == message.receive_ns:
                pipeline.push(index[message.topic], message.raw, message.receive_ns)
            while pipeline.complete(stamp_ns := tick_ns(tick, contract.fps), now_ns):
                frames[stamp_ns] = pipeline.assemble(stamp_ns).frame
                tick += 1
    return frames, pipeline.take_late()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy that takes all inputs; what it commands does not matter here."""
    contract = load_contract(fake_arm.CONTRACT)
    torch.manual_seed(0)
    features = contract.features
    ones = {
        key: {name: np.full(features[key].shape[-1:], value) for name, value in STATISTICS.items()}
        for key in (IMAGES, STATE, POSE, "action")
    }
    inputs = {key: features[key] for key in (IMAGES, STATE, POSE)}
    processors = Processors(inputs, features["action"], ProcessorOptions(), ones)
    config = {**{k: processors.to_dict()[k] for k in ("inputs", "action")}, "action_horizon": 2, "n_action_steps": 1}
    policy = build_policy("bc", {**config, "n_obs_steps": 1, "hidden_dims": [8]})
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny", policy, processors, contract, {})


STATISTICS = {"min": -1.0, "max": 1.0, "mean": 0.0, "std": 1.0}


@pytest.fixture
def replayed(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Replay a bag, and return what was seen at every tick."""
    frames: Frames = {}
    observe = PolicyRuntime.observe

    def watched(self: PolicyRuntime, **options: Any) -> Any:
        result = observe(self, **options)
        if result is not None:
            frames[result.stamp_ns] = result.frame
        return result

    def run(bag: Path, **options: Any) -> Frames:
        frames.clear()
        replay_bag(bag, checkpoint, fake_arm.CONTRACT, tmp_path / "replay", **options)
        return dict(frames)

    monkeypatch.setattr(PolicyRuntime, "observe", watched)
    monkeypatch.setattr(replay, "plot_replay", lambda *_: None)  # another test draws
    return run


def converted(bag: Path, root: Path, **options: Any) -> tuple[EpisodeDataset, Any]:
    contract = load_contract(fake_arm.CONTRACT)
    report = convert_bags([bag], contract, root, image_storage="png", progress=False, **options)
    return EpisodeDataset(root), report.episodes[0]


def assert_equal(frames: Frames, others: Frames) -> None:
    """All ticks that both have are equal, and there are many."""
    common = frames.keys() & others.keys()
    assert len(common) > 20
    for stamp_ns in common:
        one, other = frames[stamp_ns], others[stamp_ns]
        assert (one is None) == (other is None), stamp_ns
        if one is not None and other is not None:
            for key, value in one.values.items():
                assert value.tobytes() == other.values[key].tobytes(), (stamp_ns, key)


def rows(dataset: EpisodeDataset, begin_ns: int) -> Frames:
    values = dataset.episode(0).values
    first = first_tick_at_or_after(begin_ns, 10)
    return {
        tick_ns(first + k, 10): Frame(
            tick_ns(first + k, 10), {key: values[key][k] for key in (IMAGES, STATE, POSE)}, ""
        )
        for k in range(dataset.lengths[0])
    }


def test_live_replay_and_dataset_are_equal_at_all_ticks_when_given_the_list(tmp_path: Path, replayed: Any) -> None:
    bag = late_bag(tmp_path / "bag", [CAMERA])
    seen, late = live(bag)
    assert len(late) > 5
    whole, report = converted(bag, tmp_path / "whole")
    first_ns, last_ns = report.begin_ns, report.end_ns
    assert set(report.late_samples) == {
        item._replace(missed_ns=min(item.missed_ns, last_ns))
        for item in late
        if item.missed_ns >= first_ns and item.stamp_ns <= last_ns
    }
    without = {k: f for k, f in rows(whole, first_ns).items() if seen[k] is not None}
    assert any(f.values[IMAGES].tobytes() != seen[k].values[IMAGES].tobytes() for k, f in without.items())  # type: ignore[union-attr]
    given = tmp_path / "whole/meta/conversion_report.json"
    listed, listed_report = converted(bag, tmp_path / "listed", late_samples=given)
    assert_equal(rows(listed, listed_report.begin_ns), seen)
    assert_equal(replayed(bag, late_samples=given), seen)
    assert_equal(replayed(bag), seen)  # received as by the recorder


def test_with_an_empty_list_a_replay_sees_what_the_dataset_holds(tmp_path: Path, replayed: Any) -> None:
    bag = late_bag(tmp_path / "bag", [CAMERA, TOOL, JOINTS])
    dataset, report = converted(bag, tmp_path / "dataset")
    nothing = tmp_path / "nothing.json"
    nothing.write_text(json.dumps({"episodes": [{"bag": str(bag), "late_samples": []}]}))
    assert_equal(replayed(bag, late_samples=nothing), rows(dataset, report.begin_ns))


@pytest.mark.parametrize("topics", [[TOOL], [CAMERA, TOOL, JOINTS]])
def test_a_replay_lacks_what_the_node_lacked_where_a_sample_after_the_tick_was_late(
    tmp_path: Path, replayed: Any, topics: list[str]
) -> None:
    """The tool's pose is interpolated: without the sample after the tick there is none."""
    bag = late_bag(tmp_path / "bag", topics)
    seen, late = live(bag)
    assert any(frame is None for frame in list(seen.values())[3:])
    by_bag = [{"bag": str(bag), "late_samples": [item._asdict() for item in late]}]
    (tmp_path / "late.json").write_text(json.dumps({"episodes": by_bag}))
    assert_equal(replayed(bag, late_samples=tmp_path / "late.json"), seen)


def test_a_list_is_refused_for_another_recording_and_when_it_is_none(tmp_path: Path, checkpoint: Path) -> None:
    bag = late_bag(tmp_path / "bag", [])

    def replay_with(content: Any, name: str = "late.json") -> None:
        (tmp_path / name).write_text(json.dumps(content))
        replay_bag(bag, checkpoint, fake_arm.CONTRACT, tmp_path / "out", late_samples=tmp_path / name)

    entry = LateSample(CAMERA, "", START_NS + NANOSECONDS + 1, START_NS + 2 * NANOSECONDS)._asdict()
    with pytest.raises(DatasetError, match=r"none of its 1 late samples is in the bag.*another recording"):
        replay_with({"episodes": [{"bag": "bag", "late_samples": [entry]}]})
    with pytest.raises(DatasetError, match=r"tells nothing of .*/bag, only of other; give the list of that bag"):
        replay_with({"episodes": [{"bag": "/somewhere/other", "late_samples": [entry]}]})
    for wrong in ([], {}, {"episodes": [{"bag": "bag", "late_samples": [{"topic": 3}]}]}, {"episodes": 4}):
        with pytest.raises(DatasetError, match=r"late\.json: not a list of late samples .*conversion_report\.json"):
            replay_with(wrong)
    with pytest.raises(DatasetError, match="no such list of late samples"):
        replay_bag(bag, checkpoint, fake_arm.CONTRACT, tmp_path / "out", late_samples=tmp_path / "gone.json")


def test_the_commands_take_the_list(tmp_path: Path, checkpoint: Path, capsys: Any) -> None:
    bag = late_bag(tmp_path / "bag", [CAMERA])
    convert = ["convert", "--bags", str(bag), "--contract", str(fake_arm.CONTRACT), "--image-storage", "png"]
    assert main([*convert, "--output", str(tmp_path / "whole")]) == 0
    given = ["--late-samples", str(tmp_path / "whole/meta/conversion_report.json")]
    assert main([*convert, "--output", str(tmp_path / "listed"), *given]) == 0
    assert "late samples are left out of the ticks that missed them" in capsys.readouterr().out
    command = ["replay", "--bag", str(bag), "--checkpoint", str(checkpoint), "--output", str(tmp_path / "out")]
    assert main([*command, *given]) == 0
