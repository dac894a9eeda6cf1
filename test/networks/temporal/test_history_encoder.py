"""History: causal, and frames before the episode change nothing."""

import torch

from vla_ros.networks.temporal import HistoryEncoder


def make() -> tuple[HistoryEncoder, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return HistoryEncoder(5, 3, context_dim=16).eval(), torch.randn(2, 6, 5), torch.randn(2, 5, 3)


def test_no_frame_depends_on_a_later_one() -> None:
    encoder, observations, actions = make()
    before = encoder.contexts(observations, actions)
    later = observations.clone()
    later[:, 4:] += 1.0
    after = encoder.contexts(later, torch.cat([actions[:, :4], actions[:, 4:] + 1.0], dim=1))
    torch.testing.assert_close(after[:, :4], before[:, :4])
    assert not torch.allclose(after[:, 4], before[:, 4])


def test_the_action_before_a_frame_reaches_it_and_not_the_frame_it_was_taken_at() -> None:
    encoder, observations, actions = make()
    before = encoder.contexts(observations, actions)
    actions[:, 2] += 1.0
    changed = (encoder.contexts(observations, actions) - before).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.tolist() == [False, False, False, True, True, True]


def test_frames_before_the_episode_change_nothing() -> None:
    encoder, observations, actions = make()
    is_pad = torch.zeros(2, 6, dtype=torch.bool)
    is_pad[:, :3] = True
    before = encoder(observations, actions, is_pad)
    observations[:, :3], actions[:, :3] = 9.0, -9.0
    torch.testing.assert_close(encoder(observations, actions, is_pad), before)
    assert before.shape == (2, 16)
    assert torch.isfinite(before).all()
