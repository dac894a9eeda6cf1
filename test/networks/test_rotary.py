import torch

from vla_ros.networks import apply_rotary, rotary_angles


def rotated(x, positions):
    return apply_rotary(x, rotary_angles(positions, x.shape[-1]))


def test_position_zero_changes_nothing():
    x = torch.randn(2, 3, 4, 8)
    torch.testing.assert_close(rotated(x, torch.zeros(2, 3, dtype=torch.long)), x)


def test_a_pair_turns_by_its_frequency():
    x = torch.zeros(1, 1, 1, 4)
    x[..., 1] = 1.0  # with number 3, the second pair: 10000 ** (-2 / 4) = 0.01 rad per position
    turned = rotated(x, torch.tensor([[7]]))[0, 0, 0]
    angle = torch.tensor(0.07)
    torch.testing.assert_close(turned, torch.stack([angle * 0, angle.cos(), angle * 0, angle.sin()]))


def test_products_depend_on_the_distance_only():
    query, key = torch.randn(1, 1, 1, 16), torch.randn(1, 1, 1, 16)

    def product(i, j):
        return (rotated(query, torch.tensor([[i]])) * rotated(key, torch.tensor([[j]]))).sum()

    torch.testing.assert_close(product(3, 1), product(103, 101), rtol=1e-4, atol=1e-4)


def test_half_precision_keeps_its_type():
    assert rotated(torch.randn(1, 2, 1, 8).bfloat16(), torch.tensor([[0, 1]])).dtype == torch.bfloat16
