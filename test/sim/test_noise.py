"""Facts about the noise that demonstrations are driven with."""

from pathlib import Path

import numpy as np
import pytest

from vla_ros.contract import load_contract
from vla_ros.data_types import ConfigError
from vla_ros.sim.noise import ActionNoise, noise_scale

CONTRACT = load_contract(Path(__file__).parents[2] / "config" / "robots" / "metaworld_sawyer.yaml")
SCALE = np.array([0.01, 0.01, 0.01, 0.0])
INTENDED = np.array([0.002, 0.0, -0.003, 0.5])


def executed(noise: ActionNoise, n: int = 6) -> np.ndarray:
    noise.begin_episode(5)
    return np.array([noise(INTENDED, CONTRACT) for _ in range(n)])


def test_noise_moves_the_scaled_numbers_within_the_limits_and_leaves_the_others_alone() -> None:
    noisy = executed(ActionNoise(SCALE, 0.3))
    assert (noisy[:, :3] != INTENDED[:3]).all()
    assert (noisy[:, 3] == INTENDED[3]).all()
    assert np.abs(executed(ActionNoise(SCALE, 50.0))[:, :3]).max() == CONTRACT.action.limits.upper[0]


def test_without_noise_an_action_stays_as_it_is() -> None:
    np.testing.assert_array_equal(executed(ActionNoise(SCALE, 0.0)), [INTENDED] * 6)


def test_an_episode_repeats_its_noise_and_another_seed_does_not() -> None:
    first, again = executed(ActionNoise(SCALE, 0.3)), executed(ActionNoise(SCALE, 0.3))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, executed(ActionNoise(SCALE, 0.3, seed=1)))


def test_held_noise_changes_only_when_its_ticks_are_over() -> None:
    noise = executed(ActionNoise(SCALE, 0.05, hold_ticks=3)) - INTENDED
    assert len(np.unique(noise[:, 0])) == 2


def test_noise_of_one_is_half_the_range_of_the_limits_where_the_robot_says_nothing() -> None:
    np.testing.assert_allclose(noise_scale(object(), CONTRACT), [0.012, 0.012, 0.012, 0.0])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"std": -1.0}, "noise_std must be at least 0"),
        ({"std": float("nan")}, "noise_std must be at least 0"),
        ({"std": 0.1, "hold_ticks": 0}, "noise_hold_ticks must be at least 1"),
    ],
)
def test_a_senseless_option_is_refused(options: dict[str, float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        ActionNoise(SCALE, **options)  # type: ignore[arg-type]
