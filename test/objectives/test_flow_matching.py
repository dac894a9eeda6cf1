import pytest
import torch

from vla_ros.objectives import draw_flow, integrate_flow, sample_flow_time, sample_noise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def example(padded_from=None):
    actions, is_pad = torch.randn(3, 5, 2, generator=generator(1)), torch.zeros(3, 5, dtype=torch.bool)
    if padded_from is not None:
        is_pad[:, padded_from:] = True
    return actions, is_pad


def test_times_follow_the_papers_distribution():
    times = sample_flow_time(200_000, generator()).double()
    assert times.min() >= 0.0
    assert times.max() <= 0.999
    for quantile in (0.1, 0.25, 0.5, 0.75, 0.9):
        # P(t <= s) = 1 - (1 - s / 0.999) ** 1.5
        assert torch.quantile(times[:50_000], quantile) == pytest.approx(
            0.999 * (1 - (1 - quantile) ** (2 / 3)), abs=0.01
        )


def test_the_path_goes_from_noise_to_actions():
    draw = draw_flow(*example(), generator=generator())
    early, late = (
        draw.__class__(draw.actions_BHA, draw.noise_BHA, torch.full((3,), t), draw.is_pad_BH) for t in (0.0, 1.0)
    )
    torch.testing.assert_close(early.noised_BHA, draw.noise_BHA)
    torch.testing.assert_close(late.noised_BHA, draw.actions_BHA)
    quarter = draw.__class__(draw.actions_BHA, draw.noise_BHA, torch.full((3,), 0.25), draw.is_pad_BH)
    torch.testing.assert_close(quarter.noised_BHA, 0.25 * draw.actions_BHA + 0.75 * draw.noise_BHA)


def test_the_velocity_from_noise_to_actions_has_no_loss():
    draw = draw_flow(*example(), generator=generator())
    assert draw.loss(draw.actions_BHA - draw.noise_BHA) == 0.0
    assert draw.loss(draw.noise_BHA - draw.actions_BHA) > 1.0


def test_padding_never_reaches_a_draw_or_its_loss_not_even_as_nan():
    actions, is_pad = example(padded_from=3)
    broken = actions.masked_fill(is_pad[..., None], torch.nan)
    draws = [draw_flow(a, is_pad, 2, generator()) for a in (actions, broken)]
    torch.testing.assert_close(draws[0].noised_BHA, draws[1].noised_BHA)
    velocity = torch.randn(6, 5, 2, generator=generator(2))
    other = velocity.clone()
    other[:, 3:] = torch.nan
    assert draws[0].loss(velocity) == draws[1].loss(other)


def test_marking_a_step_as_padding_changes_the_loss():
    actions, is_pad = example()
    velocity = torch.zeros(3, 5, 2)
    whole = draw_flow(actions, is_pad, generator=generator())
    cut = draw_flow(actions, example(padded_from=2)[1], generator=generator())
    assert whole.loss(velocity) != cut.loss(velocity)


def test_a_batch_of_padding_alone_has_loss_zero():
    actions, is_pad = example(padded_from=0)
    assert draw_flow(actions, is_pad, generator=generator()).loss(torch.ones(3, 5, 2)) == 0.0


def test_draws_of_a_sample_follow_each_other():
    actions, is_pad = example()
    draw = draw_flow(actions, is_pad, 3, generator())
    torch.testing.assert_close(draw.actions_BHA, actions.repeat_interleave(3, dim=0))
    assert len(draw.time_B.unique()) == 9


def test_equal_generators_draw_equally():
    one, two = (draw_flow(*example(), generator=generator(5)) for _ in range(2))
    assert torch.equal(one.noised_BHA, two.noised_BHA)
    assert torch.equal(sample_noise((2, 3), generator(5)), sample_noise((2, 3), generator(5)))


def test_euler_follows_a_constant_velocity_exactly_and_asks_once_per_step():
    asked = []

    def velocity(x, time_B):
        asked.append(time_B[0].item())
        return torch.full_like(x, 2.0)

    torch.testing.assert_close(integrate_flow(velocity, torch.zeros(2, 3, 1), 10), torch.full((2, 3, 1), 2.0))
    assert asked == pytest.approx([k / 10 for k in range(10)])


def test_the_true_velocity_of_one_action_leads_to_it():
    action, noise = torch.randn(1, 4, 2), torch.randn(1, 4, 2)
    reached = integrate_flow(lambda x, t: (action - x) / (1 - t[:, None, None]), noise, 10)
    torch.testing.assert_close(reached, action, rtol=1e-4, atol=1e-5)
