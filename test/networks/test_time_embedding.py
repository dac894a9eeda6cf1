import math

import torch

from vla_ros.networks import time_embedding


def test_periods_go_from_4e_3_to_4_geometrically():
    width = 8
    periods = [4e-3 * 1000 ** (i / 3) for i in range(4)]
    time = 0.3217
    expected = [math.sin(2 * math.pi * time / p) for p in periods] + [math.cos(2 * math.pi * time / p) for p in periods]
    embedded = time_embedding(torch.tensor([time], dtype=torch.float64), width)[0]
    torch.testing.assert_close(embedded, torch.tensor(expected), rtol=0, atol=1e-6)


def test_angles_are_exact_at_the_shortest_period():
    times = torch.linspace(0, 1, 1001)
    embedded = time_embedding(times, 64)[:, 0]
    exact = torch.sin(times.double() * 2 * math.pi / 4e-3).float()
    torch.testing.assert_close(embedded, exact, rtol=0, atol=1e-6)


def test_no_number_is_constant_on_the_interval():
    embedded = time_embedding(torch.rand(1000, generator=torch.Generator().manual_seed(0)), 64)
    assert embedded.std(dim=0).min() > 0.05
