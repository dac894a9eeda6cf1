"""The trajectory head's loss: the winner learns, padding teaches nothing, probabilities say which mode it was."""

import pytest
import torch
from torch.nn import functional

from vla_ros.data_types import ConfigError
from vla_ros.networks.heads.trajectory import Trajectories, TrajectoryHead, trajectory_loss


def test_only_the_nearest_mode_learns_its_shape_and_the_others_are_less_probable() -> None:
    torch.manual_seed(0)
    waypoints = torch.randn(2, 3, 4, 3)
    target = waypoints[:, 1] + 0.01
    predicted = Trajectories(waypoints.requires_grad_(), torch.zeros(2, 3, requires_grad=True))
    shape, choice = trajectory_loss(predicted, target, torch.zeros(2, 4, dtype=torch.bool))
    # smooth L1 with β 0.1 of an error of 0.01: ½·0.01²/0.1
    assert shape.item() == pytest.approx(5e-4, rel=1e-3)
    assert choice.item() == pytest.approx(torch.log(torch.tensor(3.0)).item())
    (shape + choice).backward()
    assert waypoints.grad is not None
    assert waypoints.grad[:, 1].any()
    assert not waypoints.grad[:, [0, 2]].any()
    assert (predicted.logits_BM.grad[:, 1] < 0).all()
    assert (predicted.logits_BM.grad[:, [0, 2]] > 0).all()


def test_padded_waypoints_change_nothing() -> None:
    torch.manual_seed(0)
    predicted, target = Trajectories(torch.randn(3, 2, 5, 3), torch.randn(3, 2)), torch.randn(3, 5, 3)
    is_pad = torch.zeros(3, 5, dtype=torch.bool)
    is_pad[0, 2:], is_pad[1] = True, True
    expected = trajectory_loss(predicted, target, is_pad)
    target[is_pad] = torch.nan
    for term, other in zip(expected, trajectory_loss(predicted, target, is_pad), strict=True):
        assert torch.isfinite(term)
        assert torch.equal(term, other)
    rows = functional.cross_entropy(predicted.logits_BM[[0, 2]], _nearest(predicted, target, is_pad)[[0, 2]])
    torch.testing.assert_close(expected[1], rows)


def _nearest(predicted: Trajectories, target: torch.Tensor, is_pad: torch.Tensor) -> torch.Tensor:
    off = predicted.waypoints_BMH3 - target[:, None]
    distance = off[..., :2].norm(dim=-1) + 0.5 * off[..., 2].abs()
    return torch.where(is_pad[:, None], 0.0, distance).sum(-1).argmin(1)


def test_two_ways_round_an_obstacle_are_both_learnt() -> None:
    torch.manual_seed(0)
    head = TrajectoryHead(2, horizon=3, n_modes=2, hidden_dims=(32,))
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    left = torch.tensor([[0.3, 0.2, 0.5], [0.6, 0.3, 0.0], [0.9, 0.0, -0.5]])
    target = torch.stack([left, left * torch.tensor([1.0, -1.0, -1.0])]).repeat(16, 1, 1)
    for _ in range(300):
        predicted = head(torch.ones(32, 2))
        loss = sum(trajectory_loss(predicted, target, torch.zeros(32, 3, dtype=torch.bool)))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimiser.step()
    modes = head(torch.ones(1, 2))
    sides = sorted(modes.waypoints_BMH3[0, :, 1, 1].tolist())
    assert sides == pytest.approx([-0.3, 0.3], abs=0.03)
    assert modes.probabilities()[0].tolist() == pytest.approx([0.5, 0.5], abs=0.1)
    assert modes.best().shape == (1, 3, 3)


@pytest.mark.parametrize(("horizon", "modes"), [(0, 3), (4, 0)])
def test_a_head_without_waypoints_or_modes_is_refused(horizon: int, modes: int) -> None:
    with pytest.raises(ConfigError):
        TrajectoryHead(8, horizon, modes)
