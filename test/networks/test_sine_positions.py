import math

import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks import sine_positions, sine_positions_2d


def test_positions_are_sines_and_cosines_by_turns():
    table = sine_positions(7, 8)
    for position in range(7):
        for pair in range(4):
            angle = position / 10_000 ** (2 * pair / 8)
            assert table[position, 2 * pair] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * pair + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_map_positions_say_the_row_first_and_then_the_column():
    height, width, dim = 3, 5, 16
    table = sine_positions_2d(height, width, dim).view(height, width, dim)
    for row in range(height):
        for column in range(width):
            for pair in range(4):
                frequency = 10_000 ** (-2 * pair / 8)
                down = (row + 1) / height * 2 * math.pi * frequency
                right = (column + 1) / width * 2 * math.pi * frequency
                expected = [math.sin(down), math.cos(down), math.sin(right), math.cos(right)]
                got = [*table[row, column, 2 * pair : 2 * pair + 2], *table[row, column, 8 + 2 * pair : 10 + 2 * pair]]
                assert [float(value) for value in got] == pytest.approx(expected, abs=1e-5)


def test_no_two_places_of_a_map_are_alike():
    table = sine_positions_2d(11, 11, 128)
    distance = torch.cdist(table, table) + torch.eye(121) * 9.0
    assert distance.min() > 0.1


def test_width_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="multiple of 2, got 5"):
        sine_positions(3, 5)
    with pytest.raises(ConfigError, match="multiple of 4, got 6"):
        sine_positions_2d(3, 3, 6)
