import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from vla_ros.data_types import ConfigError
from vla_ros.objectives import Diffusion

# For other numbers of steps diffusers steps by 100 // count, which misses the level visited next; and for some (24, 29)
# rounding in floating point moves its levels by one or adds one.
STEPS_THAT_DIVIDE = [1, 2, 4, 5, 10, 20, 25, 50, 100]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def example(padded_from=None):
    actions, is_pad = normal(3, 5, 2, seed=1), torch.zeros(3, 5, dtype=torch.bool)
    if padded_from is not None:
        is_pad[:, padded_from:] = True
    return actions, is_pad


def fixed_network(x, time_B):
    """A noise predictor with random weights that never change."""
    weight, direction = normal(2, 2, seed=8).to(x.dtype), normal(2, seed=9).to(x.dtype)
    return torch.tanh(x @ weight + 5.0 * time_B[:, None, None].to(x.dtype) * direction)


def counterpart(ours, *, float64=False):
    """Return diffusers' scheduler of the same options; with ours' float64 schedule in place of its float32 one."""
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDIMScheduler(
        num_train_timesteps=ours.train_steps,
        beta_schedule="squaredcos_cap_v2",
        clip_sample=ours.clip is not None,
        clip_sample_range=ours.clip or 1.0,
        set_alpha_to_one=True,
        timestep_spacing=ours.spacing,
    )
    theirs.set_timesteps(ours.sample_steps)
    if float64:
        theirs.alphas_cumprod = torch.tensor(ours.alpha_bars, dtype=torch.float64)
    return theirs


# ── the schedule ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_schedule_is_the_squared_cosine_until_the_clipped_last_step():
    # alpha_bar(t) / alpha_bar(0) telescopes out of the product of 1 - beta
    first = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    expected = [math.cos(((step + 1) / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 / first for step in range(99)]
    got = Diffusion().alpha_bars
    assert got[:99] == pytest.approx(expected, rel=1e-11)
    assert got[99] == pytest.approx(0.001 * expected[98], rel=1e-11)


def test_the_schedule_has_these_numbers():
    schedule = Diffusion()
    assert [schedule.betas[step] for step in (0, 50, 98, 99)] == pytest.approx(
        [6.31281598e-04, 3.15463394e-02, 7.49939280e-01, 0.999], rel=1e-8
    )
    assert [schedule.alpha_bars[step] for step in (0, 9, 50, 89, 98, 99)] == pytest.approx(
        [9.99368718e-01, 9.72092737e-01, 4.78264633e-01, 2.40917241e-02, 2.42857228e-04, 2.42857228e-07], rel=1e-8
    )


@pytest.mark.parametrize("train_steps", [1, 50, 100, 1000])
def test_the_schedule_is_that_of_diffusers(train_steps):
    ours = Diffusion(train_steps, 1)
    theirs = counterpart(ours)
    torch.testing.assert_close(torch.tensor(ours.betas), theirs.betas, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(torch.tensor(ours.alpha_bars)[:-1], theirs.alphas_cumprod[:-1], rtol=1e-5, atol=0)
    # in float32, as there, 1 - 0.999 has four digits
    torch.testing.assert_close(torch.tensor(ours.alpha_bars)[-1], theirs.alphas_cumprod[-1], rtol=1e-4, atol=0)


def test_noise_is_added_as_in_diffusers():
    ours, (actions, _) = Diffusion(), example()
    theirs = counterpart(ours)
    for steps in torch.arange(102).clamp(max=99).split(3):
        got = ours.noised(actions, normal(3, 5, 2), steps)
        torch.testing.assert_close(got, theirs.add_noise(actions, normal(3, 5, 2), steps), rtol=1e-5, atol=1e-6)


# ── the levels visited ────────────────────────────────────────────────────────────────────────────────────────────────


def test_ten_trailing_steps_begin_at_the_noisiest_level():
    assert Diffusion().timesteps == (99, 89, 79, 69, 59, 49, 39, 29, 19, 9)
    assert Diffusion(sample_steps=3).timesteps == (99, 66, 32)
    assert Diffusion(sample_steps=1).timesteps == (99,)


def test_ten_leading_steps_end_at_the_least_noisy_level():
    assert Diffusion(spacing="leading").timesteps == (90, 80, 70, 60, 50, 40, 30, 20, 10, 0)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("train_steps", [50, 100])
def test_every_number_of_steps_visits_falling_levels(spacing, train_steps):
    for count in range(1, train_steps + 1):
        steps = Diffusion(train_steps, count, spacing=spacing).timesteps
        assert len(steps) == count
        assert all(later < earlier for earlier, later in pairwise(steps))
        assert steps[-1] >= 0
        assert (steps[0] == train_steps - 1) if spacing == "trailing" else (steps[-1] == 0)


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("count", [*STEPS_THAT_DIVIDE, 3, 6, 7, 8, 9, 15, 16, 30, 33, 64, 75, 99])
def test_the_levels_are_those_of_diffusers(spacing, count):
    ours = Diffusion(sample_steps=count, spacing=spacing)
    assert list(ours.timesteps) == counterpart(ours).timesteps.tolist()


# ── sampling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_step_by_hand():
    # alpha_bar: 0.02409172 at level 89 (roots 0.15521509 and, of the rest, 0.98788070), 0.09404561 at level 79
    # (0.30666857 and 0.95181636). From x = 1 with noise 0.5: actions (1 - 0.98788070 * 0.5) / 0.15521509 = 3.26037662
    one, half = torch.ones(1, 1, 1), torch.full((1, 1, 1), 0.5)
    free, clipped = Diffusion(), Diffusion(clip=1.0)
    assert free.denoised(one, half, 89, None).item() == pytest.approx(3.26037662, rel=1e-6)
    # 0.30666857 * 3.26037662 + 0.95181636 * 0.5
    assert free.denoised(one, half, 89, 79).item() == pytest.approx(1.47576322, rel=1e-6)
    # clipped to 1, the noise in x is (1 - 0.15521509) / 0.98788070 = 0.85514874
    assert clipped.denoised(one, half, 89, 79).item() == pytest.approx(1.12061309, rel=1e-6)
    assert clipped.denoised(one, half, 89, None).item() == 1.0


@pytest.mark.parametrize("clip", [1.0, 0.4, None])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("count", [1, 5, 10, 100])
def test_each_step_is_that_of_diffusers(clip, spacing, count):
    ours = Diffusion(100, count, clip, spacing)
    exact, theirs = counterpart(ours, float64=True), counterpart(ours)
    x, noise = normal(3, 5, 2, dtype=torch.float64), normal(3, 5, 2, seed=1, dtype=torch.float64)
    for step, target in zip(ours.timesteps, (*ours.timesteps[1:], None), strict=True):
        expected = exact.step(noise, step, x, use_clipped_model_output=clip is not None).prev_sample
        torch.testing.assert_close(ours.denoised(x, noise, step, target), expected, rtol=1e-12, atol=1e-12)
        got = ours.denoised(x.float(), noise.float(), step, target)
        expected = theirs.step(noise.float(), step, x.float(), use_clipped_model_output=clip is not None).prev_sample
        # its float32 schedule is what limits the comparison, at the noisiest level most of all
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
        assert got.dtype == torch.float32


@pytest.mark.parametrize("clip", [1.0, 0.4, None])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("count", STEPS_THAT_DIVIDE)
def test_the_whole_of_sampling_is_that_of_diffusers(clip, spacing, count):
    ours = Diffusion(100, count, clip, spacing)
    for dtype, rtol in ((torch.float64, 1e-10), (torch.float32, 1e-3)):
        theirs = counterpart(ours, float64=dtype == torch.float64)
        x = noise = normal(3, 5, 2, dtype=dtype)
        for step in theirs.timesteps:
            noise_in_x = fixed_network(x, step.float().expand(3) / 100)
            x = theirs.step(noise_in_x, step, x, use_clipped_model_output=clip is not None).prev_sample
        got = ours.sample(fixed_network, noise)
        torch.testing.assert_close(got, x, rtol=rtol, atol=rtol * 0.1 * x.abs().max().item())
        assert got.dtype == dtype


@pytest.mark.parametrize("spacing", ["trailing", "leading"])
@pytest.mark.parametrize("count", [1, 3, 7, 10, 30, 100])
@pytest.mark.parametrize("clip", [1.0, None])
def test_the_true_noise_around_one_chunk_leads_to_it(spacing, count, clip):
    ours = Diffusion(100, count, clip, spacing)
    point = torch.rand((1, 5, 2), generator=generator(3)) * 2.0 - 1.0

    def true_noise(x, time_B):
        alpha_bar = ours.alpha_bars[round(time_B[0].item() * 100)]
        return (x - math.sqrt(alpha_bar) * point) / math.sqrt(1.0 - alpha_bar)

    reached = ours.sample(true_noise, normal(4, 5, 2))
    torch.testing.assert_close(reached, point.expand(4, 5, 2), rtol=0, atol=2e-3 if count == 1 else 1e-4)


def test_the_true_noise_of_a_gaussian_leads_to_that_gaussian():
    ours, mean, std = Diffusion(1000, 1000), 0.5, 0.3

    def true_noise(x, time_B):
        alpha_bar = ours.alpha_bars[round(time_B[0].item() * 1000)]
        centred = x - math.sqrt(alpha_bar) * mean
        return math.sqrt(1.0 - alpha_bar) * centred / (alpha_bar * std**2 + 1.0 - alpha_bar)

    reached = ours.sample(true_noise, normal(20_000, 1, 1))
    assert reached.mean().item() == pytest.approx(mean, abs=0.01)
    assert reached.std().item() == pytest.approx(std, rel=0.02)


def test_clipped_sampling_never_leaves_the_range():
    for limit in (1.0, 0.4):
        assert Diffusion(clip=limit).sample(fixed_network, normal(50, 5, 2)).abs().max() <= limit
    assert Diffusion(clip=None).sample(fixed_network, normal(50, 5, 2)).abs().max() > 1.0


def test_clipped_sampling_holds_a_model_that_overrates_the_noise():
    reached = Diffusion(sample_steps=100, clip=1.0).sample(lambda x, _: 10.0 * x, normal(50, 5, 2))
    assert reached.abs().max() <= 1.0  # and NaN is not
    levels = Diffusion(sample_steps=100, clip=1.0)
    x = normal(50, 5, 2)
    for step, target in pairwise(levels.timesteps):
        x = levels.denoised(x, 10.0 * x, step, target)
        assert x.abs().max() < 5.0


def test_sampling_asks_once_per_level_and_tells_its_time():
    asked = []
    Diffusion().sample(lambda x, time_B: (asked.append(time_B), torch.zeros_like(x))[1], normal(3, 5, 2))
    assert [time_B.tolist() for time_B in asked] == [[pytest.approx(step / 100)] * 3 for step in Diffusion().timesteps]


def test_equal_noise_gives_equal_samples():
    noise = normal(3, 5, 2)
    assert torch.equal(Diffusion().sample(fixed_network, noise), Diffusion().sample(fixed_network, noise.clone()))
    assert not torch.equal(
        Diffusion().sample(fixed_network, noise), Diffusion().sample(fixed_network, normal(3, 5, 2, seed=1))
    )


# ── training draws and the loss ───────────────────────────────────────────────────────────────────────────────────────


def test_a_draw_is_the_actions_noised_at_its_time():
    actions, is_pad = example()
    ours = Diffusion()
    draw = ours.draw(actions, is_pad, generator=generator())
    steps = (draw.time_B * 100).round().long()
    torch.testing.assert_close(draw.time_B, steps / 100)
    assert torch.equal(draw.noised_BHA, ours.noised(actions, draw.noise_BHA, steps))


def test_every_level_is_drawn_equally_often():
    actions, is_pad = torch.zeros(20_000, 1, 1), torch.zeros(20_000, 1, dtype=torch.bool)
    draw = Diffusion(train_steps=10).draw(actions, is_pad, generator=generator())
    assert draw.time_B.dtype == torch.float32
    counts = (draw.time_B * 10).round().long().bincount()
    assert len(counts) == 10
    assert counts.tolist() == pytest.approx([2000] * 10, rel=0.1)
    assert draw.noise_BHA.std().item() == pytest.approx(1.0, abs=0.02)


def test_the_noise_itself_has_no_loss():
    draw = Diffusion().draw(*example(padded_from=4), generator=generator())
    assert draw.loss(draw.noise_BHA) == 0.0
    assert draw.loss(-draw.noise_BHA) > 1.0


def test_the_loss_is_the_mean_over_the_steps_that_are_not_padding():
    draw = Diffusion().draw(*example(padded_from=2), generator=generator())
    expected = draw.noise_BHA[:, :2].square().mean()
    torch.testing.assert_close(draw.loss(torch.zeros(3, 5, 2)), expected)


@pytest.mark.parametrize("content", [0.0, 1e6, math.nan, math.inf])
def test_content_of_padding_changes_neither_draw_nor_loss_nor_gradient(content):
    actions, is_pad = example(padded_from=3)
    results = []
    for filled in (actions, actions.masked_fill(is_pad[..., None], content)):
        draw = Diffusion().draw(filled, is_pad, 2, generator())
        predicted = normal(6, 5, 2, seed=2)
        predicted = predicted if filled is actions else predicted.masked_fill(draw.is_pad_BH[..., None], content)
        predicted.requires_grad_()
        loss = draw.loss(predicted)
        loss.backward()
        results.append((draw.noised_BHA, loss.detach(), predicted.grad))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert not results[0][2][:, 3:].any()
    assert results[0][2][:, :3].all()


def test_flipping_the_mask_changes_the_loss():
    actions, is_pad = example(padded_from=3)
    one, other = (Diffusion().draw(actions, mask, generator=generator()) for mask in (is_pad, ~is_pad))
    assert one.loss(torch.zeros(3, 5, 2)) != other.loss(torch.zeros(3, 5, 2))


def test_a_batch_of_padding_alone_has_loss_zero():
    assert Diffusion().draw(*example(padded_from=0), generator=generator()).loss(torch.ones(3, 5, 2)) == 0.0


def test_draws_of_a_sample_follow_each_other():
    actions, is_pad = example(padded_from=4)
    draw = Diffusion(1000).draw(actions, is_pad, 3, generator())
    assert torch.equal(draw.is_pad_BH, is_pad.repeat_interleave(3, dim=0))
    assert len(draw.noise_BHA[:, 0, 0].unique()) == 9
    assert len(draw.time_B.unique()) > 5
    alpha_bars = torch.tensor(Diffusion(1000).alpha_bars)[(draw.time_B * 1000).round().long()][:, None, None]
    kept = actions.masked_fill(is_pad[..., None], 0.0).repeat_interleave(3, dim=0)
    rest = (draw.noised_BHA - (1 - alpha_bars).sqrt() * draw.noise_BHA) / alpha_bars.sqrt()
    torch.testing.assert_close(rest, kept, rtol=1e-3, atol=1e-3)


def test_equal_generators_draw_equally():
    one, two, other = (Diffusion().draw(*example(), generator=generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.noised_BHA, two.noised_BHA)
    assert torch.equal(one.time_B, two.time_B)
    assert not torch.equal(one.noised_BHA, other.noised_BHA)


def test_a_trained_network_samples_both_of_two_chunks_and_not_their_mean():
    torch.manual_seed(0)
    chunks = torch.tensor([[0.6, -0.4], [-0.6, 0.4]])[:, None]  # [2, H=1, A=2]
    network = nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def predict(x, time_B):
        time_B11 = time_B[:, None, None]
        waves = [wave(k * math.pi * time_B11) for k in (0.5, 1.0, 2.0) for wave in (torch.sin, torch.cos)]
        return network(torch.cat([x, *waves], dim=-1))

    ours, source = Diffusion(sample_steps=50, clip=1.0), generator()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 800)
    actions, is_pad = chunks.repeat(128, 1, 1), torch.zeros(256, 1, dtype=torch.bool)
    for _ in range(800):
        draw = ours.draw(actions, is_pad, generator=source)
        optimiser.zero_grad()
        draw.loss(predict(draw.noised_BHA, draw.time_B)).backward()
        optimiser.step()
        falling.step()
    with torch.no_grad():
        samples = ours.sample(predict, normal(200, 1, 2))
    error, nearest = (samples - chunks[:, 0]).abs().amax(dim=-1).min(dim=-1)
    assert error.quantile(0.9) < 0.15
    assert 60 < nearest.sum() < 140


# ── bad input ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"train_steps": 0}, "^train_steps=0 must be at least 1.$"),
        ({"sample_steps": -1}, "^sample_steps=-1 must be at least 1.$"),
        ({"train_steps": 5}, "^sample_steps=10 exceeds train_steps=5; sampling visits each noise level at most once.$"),
        ({"clip": 0.0}, "^clip=0 must be above 0; None clips nothing.$"),
        ({"clip": math.nan}, "^clip=nan must be above 0; None clips nothing.$"),
        ({"spacing": "trialing"}, "^spacing 'trialing' is not one of trailing, leading. Did you mean 'trailing'.$"),
    ],
)
def test_options_that_cannot_be_are_refused_in_a_sentence(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Diffusion(**options)
