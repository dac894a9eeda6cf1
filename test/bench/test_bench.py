"""The benchmark's own arithmetic and files; and that a run from processes to ``result.json`` works."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import main, parser
from bench.cases import CASES
from bench.cases.camera_cpu import arrived_share, cpu_percent
from bench.cases.command_latency import latencies_ms
from bench.cases.ticks_lost import lost_ticks, zero_commands
from bench.cases.transport import delivered_share
from bench.contracts import CAMERAS, IMU, JOINTS, LIDAR, write_contract
from bench.messages import MessageTemplate
from bench.plans import RobotPlan, RobotReport, SubscriberReport, read_json, write_json
from bench.policy import ACTION_HORIZON, make_checkpoint
from bench.results import CaseResult, Figure, Ratio, Target, result_dict, save_result, schema_problems
from bench.statistics import extremes, interleaved, median, percentile, ratio, ratios
from bench.table import print_table
from vla_ros.bags import deserialize
from vla_ros.contract import load_contract
from vla_ros.data_types import tick_ns
from vla_ros.messages.stamps import header_stamp_ns
from vla_ros.runtime import PolicyRunner, TorchPredictor
from vla_ros.runtime.loading import blank_frame
from vla_ros.streams import ObservationPipeline

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
ALL = (*CAMERAS, JOINTS, IMU, LIDAR)


class TestStatistics:
    def test_a_ratio_without_a_baseline_is_missing_and_not_invented(self) -> None:
        assert ratio(1.0, 0.0) is None
        assert ratio(1.0, None) is None
        assert ratio(float("nan"), 2.0) is None
        assert ratio(3.0, 2.0) == 1.5

    def test_every_repeat_is_compared_with_the_baseline_beside_it(self) -> None:
        assert ratios([2.0, 9.0, None], [1.0, 3.0, 1.0]) == [2.0, 3.0, None]
        with pytest.raises(ValueError, match="shorter"):
            ratios([1.0, 2.0], [1.0])

    def test_median_and_extremes_pass_over_what_is_missing(self) -> None:
        assert median([5.0, None, 1.0, 3.0]) == 3.0
        assert extremes([5.0, None, 1.0]) == (1.0, 5.0)
        assert median([None]) is None
        assert extremes([]) == (None, None)
        assert percentile([], 50) is None
        assert percentile([0.0, 10.0], 95) == pytest.approx(9.5)

    def test_arms_take_turns_and_change_their_order_every_round(self) -> None:
        order: list[str] = []
        arms = {name: (lambda name=name: order.append(name) or len(order)) for name in ("arm", "baseline")}
        outcomes = interleaved(arms, 3)
        assert order == ["arm", "baseline", "baseline", "arm", "arm", "baseline"]
        assert outcomes == {"arm": [1, 4, 5], "baseline": [2, 3, 6]}


class TestResult:
    CASE = CaseResult(
        "case",
        "a case",
        2.0,
        3,
        (Ratio("a ÷ b", "a over b", [1.0, 1.2, 5.0], Target("<=", 1.3)), Ratio("c ÷ d", "c over d", [None])),
        (Figure("a", "ms", [1.23456789]),),
        ("a note",),
        (0.5, 0.75),
    )

    def test_a_result_fits_its_schema_and_keeps_every_repeat(self, tmp_path: Path) -> None:
        save_result(
            [self.CASE, CaseResult("broken", "another", 1.0, 1, error="no ROS")], "python -m bench", tmp_path / "r.json"
        )
        content = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
        assert schema_problems(content) == []
        found = content["cases"]["case"]["ratios"]["a ÷ b"]
        assert found["values"] == [1.0, 1.2, 5.0]
        assert (found["median"], found["min"], found["max"], found["met"]) == (1.2, 1.0, 5.0, True)
        assert content["cases"]["case"]["figures"]["a"]["median"] == 1.2346
        assert content["cases"]["broken"]["error"] == "no ROS"
        assert content["hardware"]["cores"] >= 1
        assert "python" in content["versions"]

    def test_the_schema_names_what_is_missing_unknown_or_of_another_type(self) -> None:
        content = result_dict([self.CASE], "python -m bench")
        del content["hardware"]
        content["machine"] = {}
        content["cases"]["case"]["seconds"] = "2"
        content["cases"]["case"]["ratios"]["a ÷ b"]["met"] = "yes"
        assert schema_problems(content) == [
            "result.hardware: missing",
            "result.machine: unknown",
            "result.cases.case.seconds: str does not belong here",
            "result.cases.case.ratios.a ÷ b.met: str does not belong here",
        ]
        assert schema_problems([]) == ["result: expected an object, got list"]

    def test_the_median_decides_whether_a_target_is_met(self) -> None:
        assert Ratio("r", "", [1.0, 1.4, 1.4], Target("<=", 1.3)).met is False
        assert Ratio("r", "", [0.9, 1.0, 1.0], Target(">=", 1.0)).met is True
        assert Ratio("r", "", [None], Target("<=", 1.3)).met is None
        assert Ratio("r", "", [1.0]).met is None

    def test_the_table_shows_ratio_spread_and_target(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_table([self.CASE, CaseResult("broken", "another", 1.0, 1, error="no ROS")])
        printed = capsys.readouterr().out
        for text in ("a ÷ b", "1.2 (1 – 5)", "≤ 1.3", "met", "not measured: no ROS", "case: a note"):
            assert text in printed


class TestCounting:
    def test_a_tick_without_a_command_is_lost_and_those_at_the_edge_are_not_due(self) -> None:
        begin = 5_000_000_000
        ticks = [tick_ns(500 + k, 100) for k in range(100)]
        commands = [[t + MS, t, 0 if k == 7 else t - 30 * MS] for k, t in enumerate(ticks) if k not in (40, 41)]
        report = RobotReport((begin, begin + 1000 * MS), {}, commands)
        assert lost_ticks(report, 100) == (2, 98)
        assert zero_commands(report) == 1

    def test_latency_runs_to_the_first_command_of_an_observation(self) -> None:
        report = RobotReport((0, 10**9), {}, [[30 * MS, 0, 10 * MS], [40 * MS, 0, 10 * MS], [50 * MS, 0, 0]])
        assert latencies_ms(report) == pytest.approx([20.0])

    def test_only_what_was_sent_within_the_window_counts_as_delivered(self) -> None:
        robot = RobotReport((100, 200), {"/camera": 4})
        other = SubscriberReport([], arrivals=[[99, 5], [100, 5], [200, 5], [201, 5]])
        assert delivered_share(robot, other) == 0.5

    def test_processor_time_is_that_of_the_window(self) -> None:
        robot = RobotReport((1000, 3000), {"/camera": 10})
        samples = [[0, 0, 0], [2000, 200, 5], [4000, 600, 15]]
        assert cpu_percent(robot, SubscriberReport(samples)) == pytest.approx(15.0)
        assert arrived_share(robot, SubscriberReport(samples)) == pytest.approx(0.75)
        assert cpu_percent(robot, SubscriberReport(samples[:2])) is None  # it ended before the window did
        assert cpu_percent(robot, SubscriberReport([])) is None


class TestSyntheticRobot:
    def test_messages_are_restamped_and_decoded_by_the_project(self, tmp_path: Path) -> None:
        contract = load_contract(write_contract(tmp_path / "all.yaml", ALL))
        pipeline = ObservationPipeline(contract, deserialize)
        tick = tick_ns(200, contract.fps)
        for index, spec in enumerate(pipeline.specs):
            template = MessageTemplate(spec)
            for stamp in (tick - 40 * MS, tick):
                raw = template.at(stamp)
                assert header_stamp_ns(raw) == stamp
                pipeline.push(index, raw, stamp)
        assembled = pipeline.assemble(tick)
        assert assembled.missing == ()
        assert assembled.frame is not None
        assert set(assembled.frame.values) == set(contract.features) - {"action"}

    @pytest.mark.parametrize("work", ["none", "once"])
    def test_its_policy_takes_every_kind_of_input(self, tmp_path: Path, work: str) -> None:
        path = write_contract(tmp_path / "all.yaml", ALL, image_size=(32, 32))
        checkpoint = make_checkpoint(str(path), work)  # type: ignore[arg-type]
        runner = PolicyRunner(TorchPredictor(checkpoint), checkpoint.contract.fps)
        runner.observe(blank_frame(checkpoint.contract, runner.predictor.spec.input_keys))
        assert runner.predict().actions_HA.shape == (ACTION_HORIZON, 4)

    def test_plans_survive_their_file(self, tmp_path: Path) -> None:
        plan = RobotPlan("contract.yaml", {JOINTS: 500.0}, 2.0, "out.json", on_grid=True)
        write_json(tmp_path / "plan.json", plan)
        assert RobotPlan(**read_json(tmp_path / "plan.json")) == plan
        assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]


class TestCommandLine:
    @pytest.mark.parametrize(
        "wrong", [["--case", "nothing"], ["--seconds", "0"], ["--repeats", "0"], ["--minutes", "x"]]
    )
    def test_what_makes_no_sense_is_refused(self, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            parser().parse_args(wrong)
        assert ended.value.code == 2
        assert "error:" in capsys.readouterr().err

    def test_a_case_is_known_by_its_name(self) -> None:
        assert all(case.name == name for name, case in CASES.items())

    @pytest.mark.slow
    def test_conversion_is_measured_without_ros(self, tmp_path: Path) -> None:
        assert main(["--case", "conversion", "--seconds", "1", "--repeats", "1", "--output", str(tmp_path)]) == 0
        content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
        assert schema_problems(content) == []
        assert all(ratio["median"] > 0 for ratio in content["cases"]["conversion"]["ratios"].values())


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_case_with_ros_runs_from_processes_to_the_file(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    pytest.importorskip("vla_ros_msgs.msg")
    names = ("tick_lateness", "command_latency", "joint_states", "camera_cpu", "ticks_lost", "transport")
    command = [sys.executable, "-m", "bench", "--seconds", "0.5", "--repeats", "1", "--output", str(tmp_path)]
    for name in names:
        command += ["--case", name]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    content = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    assert schema_problems(content) == []
    assert list(content["cases"]) == list(names)
    problems = {name: case["error"] for name, case in content["cases"].items() if case["error"]}
    if "shared memory" in problems.get("transport", ""):
        del problems["transport"]
    assert not problems, f"{problems}\n{ended.stderr}"
    for name in names[:5]:
        assert all(ratio["values"][0] is not None for ratio in content["cases"][name]["ratios"].values()), name
