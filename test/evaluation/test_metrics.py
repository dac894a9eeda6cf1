import json
import math

import pytest

from vla_ros.evaluation import machine
from vla_ros.evaluation.metrics import mean_rate_hz, percentiles, rounded, tick_jitter_ms, wilson_interval

# Published intervals, checked to the digits they are printed with:
# R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Statistics in Medicine 17 (1998), table I,
# method 3 (Wilson score, no continuity correction).
NEWCOMBE_1998 = [
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0000, 0.1611),
    (1, 29, 0.0061, 0.1718),
]


@pytest.mark.parametrize(("successes", "trials", "lower", "upper"), NEWCOMBE_1998)
def test_wilson_interval_equals_the_published_values(successes: int, trials: int, lower: float, upper: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((lower, upper), abs=5.1e-5)


def test_wilson_interval_solves_the_score_equation() -> None:
    # By definition the bounds p satisfy |p̂ − p| = z sqrt(p (1 − p) / n).
    for successes, trials in ((18, 20), (97, 100), (3, 7)):
        for bound in wilson_interval(successes, trials):
            distance = abs(successes / trials - bound)
            assert distance == pytest.approx(1.959963984540054 * math.sqrt(bound * (1 - bound) / trials))


def test_wilson_interval_mirrors_when_successes_and_failures_swap() -> None:
    lower, upper = wilson_interval(18, 20)
    assert wilson_interval(2, 20) == pytest.approx((1 - upper, 1 - lower))


def test_all_successes_do_not_prove_certainty() -> None:
    lower, upper = wilson_interval(20, 20)
    assert upper == 1.0
    assert 0.83 < lower < 0.84


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (-1, 5), (6, 5)])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="expected 0 ≤ successes ≤ trials"):
        wilson_interval(successes, trials)


def test_percentiles_interpolate_linearly() -> None:
    assert percentiles([float(i) for i in range(101)]) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles([1.0, 2.0]) == pytest.approx({"p50": 1.5, "p95": 1.95, "p99": 1.99})


def test_no_values_have_no_percentiles() -> None:
    assert percentiles([]) is None


def test_rate_ignores_the_time_between_series() -> None:
    ms = 1_000_000
    first = [0, 50 * ms, 100 * ms]
    after_a_long_reset = [9000 * ms, 9050 * ms]
    assert mean_rate_hz([first, after_a_long_reset]) == pytest.approx(20.0)
    assert mean_rate_hz([[5], []]) is None


def test_jitter_is_the_deviation_from_the_period_not_from_the_mean() -> None:
    ms = 1_000_000
    steady_but_slow = [0, 60 * ms, 120 * ms]
    jitter = tick_jitter_ms([steady_but_slow], 50 * ms)
    assert jitter is not None
    assert jitter["std"] == pytest.approx(0.0)
    assert jitter["p50"] == jitter["p99"] == jitter["max"] == pytest.approx(10.0)


def test_jitter_of_one_event_is_unknown() -> None:
    assert tick_jitter_ms([[1]], 50_000_000) is None


def test_rounding_reaches_nested_numbers_and_keeps_counts() -> None:
    assert rounded({"a": [1.23456, {"b": 2.0}], "n": 7, "none": None}) == {
        "a": [1.235, {"b": 2.0}],
        "n": 7,
        "none": None,
    }


def test_machine_description_is_plain_json_with_the_fields_that_a_reader_needs() -> None:
    described = json.loads(json.dumps({**machine.hardware(), **machine.versions()}))
    assert {"cpu", "cores", "os", "python", "vla_ros", "ros_distro", "rmw"} <= set(described)
    assert described["cores"] >= 1
