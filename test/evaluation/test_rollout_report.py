import json
from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import load_contract
from vla_ros.evaluation.rollout_pictures import save_episode_picture, save_video
from vla_ros.evaluation.rollout_report import CommandRecord, EpisodeTrace, RolloutResult, summarise, table_rows

MS = 1_000_000
SECOND = 1_000_000_000
PERIOD = 50 * MS
CONTRACT = Path(__file__).resolve().parents[2] / "config/robots/metaworld_sawyer.yaml"


def make_trace(
    *, latency_ms: int = 60, success: bool = True, ticks: int = 20, with_images: bool = False
) -> EpisodeTrace:
    """Robot time runs from 1 s with the client's clock at 100 s; every observation is answered `latency_ms` later."""
    start, wall = SECOND, 100 * SECOND
    trace = EpisodeTrace(seed=7, episode=3, start_ns=start, end_ns=start + ticks * PERIOD, ticks=ticks, halted_ticks=1)
    if success:
        trace.success_ns = trace.end_ns
    trace.clock = [(start + k * 12_500_000, wall + k * 12_500_000) for k in range(4 * ticks + 1)]
    for tick in range(ticks):
        seen = start + tick * PERIOD
        received = wall + tick * PERIOD + latency_ms * MS
        trace.commands.append(CommandRecord(received, seen + PERIOD, seen, np.array([0.01, 0.0, -0.005, 1.0])))
        trace.chunks.append((received - 20 * MS, seen))
        if with_images:
            for key in ("observation.images.front", "observation.images.wrist"):
                trace.images.setdefault(key, []).append((seen, np.full((84, 84, 3), 10 * tick, np.uint8)))
    return trace


def report(traces: list[EpisodeTrace], *, lock_step: bool = False) -> RolloutResult:
    return summarise(
        traces,
        robot="sawyer",
        task="push-v3",
        policy="bc",
        control_rate_hz=20,
        lock_step=lock_step,
        command="vla_ros demo",
    )


def test_latency_runs_from_the_clock_reaching_the_observation_to_the_command() -> None:
    result = report([make_trace(latency_ms=60)])
    assert result.latency_ms == pytest.approx({"p50": 60.0, "p95": 60.0, "p99": 60.0})
    assert result.chunk_latency_ms == pytest.approx({"p50": 40.0, "p95": 40.0, "p99": 40.0})
    assert result.control_rate_hz == pytest.approx(20.0)
    assert result.tick_jitter_ms == pytest.approx({"std": 0.0, "p50": 0.0, "p99": 0.0, "max": 0.0})
    assert result.real_time_factor == pytest.approx(1.0)


def test_later_steps_of_the_same_prediction_do_not_count_as_latency() -> None:
    trace = make_trace(ticks=2)
    first = trace.commands[0]
    trace.commands.append(CommandRecord(first.receive_ns + SECOND, first.effect_ns, first.observation_ns, first.action))
    assert trace.command_latencies_ms() == pytest.approx([60.0, 60.0])


def test_safe_commands_have_no_observation_and_no_latency() -> None:
    trace = make_trace(ticks=1)
    trace.commands = [CommandRecord(100 * SECOND, SECOND, 0, np.zeros(4))]
    assert trace.command_latencies_ms() == []


def test_observations_outside_the_clock_seen_are_left_out() -> None:
    trace = make_trace(ticks=2)
    assert trace.wall_ns(trace.clock[0][0] - 1) is None
    assert trace.wall_ns(trace.clock[-1][0] + 1) is None
    assert trace.wall_ns(trace.clock[1][0] - 1) == trace.clock[1][1]


def test_in_lock_step_nothing_is_timed() -> None:
    result = report([make_trace()], lock_step=True)
    assert (result.control_rate_hz, result.tick_jitter_ms, result.latency_ms, result.real_time_factor) == (None,) * 4
    assert result.inference_ms is None


def test_inference_in_process_is_timed_even_in_lock_step() -> None:
    first, second = make_trace(), make_trace()
    first.inference_ns, second.inference_ns = [2 * MS, 4 * MS], [6 * MS]
    result = report([first, second], lock_step=True)
    assert result.inference_ms is not None
    assert result.inference_ms["p50"] == pytest.approx(4.0)
    assert any(name == "inference" and "p50 4.0 ms" in text for name, text in table_rows(result))
    assert "lock-step" in dict(table_rows(result))["timing"]


def test_success_counts_with_its_interval_and_time() -> None:
    result = report([make_trace(), make_trace(success=False)])
    assert (result.episodes, result.successes, result.success_rate) == (2, 1, 0.5)
    assert result.wilson_95 == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert result.mean_time_to_success_s == pytest.approx(1.0)
    assert dict(table_rows(result))["success"].startswith("1 of 2 = 50%")


def test_episodes_without_a_single_command_are_reported_not_invented() -> None:
    trace = EpisodeTrace(seed=0, start_ns=SECOND, end_ns=11 * SECOND, note="observation.images.front is silent")
    result = report([trace])
    assert result.control_rate_hz is None
    assert result.latency_ms is None
    assert dict(table_rows(result))["control rate"] == "no commands"
    assert result.episode_results[0]["note"] == "observation.images.front is silent"


def test_result_json_has_the_fields_that_readers_rely_on(tmp_path: Path) -> None:
    report([make_trace()]).save(tmp_path / "deep" / "result.json")
    saved = json.loads((tmp_path / "deep" / "result.json").read_text())
    wanted = {"episodes", "successes", "success_rate", "wilson_95", "control_rate_hz", "tick_jitter_ms", "latency_ms"}
    assert wanted | {"hardware", "versions", "command", "episode_results"} <= set(saved)
    assert saved["episode_results"] == [{"seed": 7, "success": True, "time_s": 1.0, "reward": 0.0}]


def test_a_slow_machine_is_named() -> None:
    trace = make_trace()
    trace.clock = [(robot, 100 * SECOND + 2 * (robot - SECOND)) for robot, _ in trace.clock]
    assert "too slow" in dict(table_rows(report([trace])))["simulation speed"]


def test_the_video_shows_every_tick_and_holds_the_last_for_a_second(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    save_video(tmp_path / "demo.mp4", [make_trace(with_images=True), make_trace()], 20)
    with av.open(str(tmp_path / "demo.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 20 + 20
    assert frames[0].width > frames[0].height  # two cameras side by side


def test_a_video_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no episode was recorded"):
        save_video(tmp_path / "demo.mp4", [make_trace()], 20)


def test_the_picture_is_drawn_with_and_without_frames(tmp_path: Path) -> None:
    action = load_contract(CONTRACT).action
    for name, trace in (("with.png", make_trace(with_images=True)), ("without.png", make_trace(success=False))):
        save_episode_picture(tmp_path / name, trace, action, "push-v3")
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
