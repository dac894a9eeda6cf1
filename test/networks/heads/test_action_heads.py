"""Every action head, on vectors and on tokens: learns, ignores padding, equals its reference."""

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from vla_ros.data_types import ConfigError
from vla_ros.networks.heads import (
    ActionHeadBase,
    DiffusionActionHead,
    FlowMatchingActionHead,
    GaussianMLPActionHead,
    MLPActionHead,
    TransformerActionHead,
    build_action_head,
)
from vla_ros.objectives import Diffusion, UniformBins
from vla_ros.objectives.ddpm import sample_ddpm
from vla_ros.registry import ACTION_HEAD_REGISTRY, ACTION_HEADS

NAMES = ACTION_HEADS.built_in
B, D, A, H = 3, 12, 4, 6
SMALL = {name: {"width": 16, "n_heads": 2} for name in ("diffusion", "flow", "transformer")}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def head(name, n_tokens=1, horizon=H, **options):
    return build_action_head(name, D, A, horizon, n_tokens, **{**SMALL.get(name, {}), **options})


def features(n_tokens=1):
    return torch.randn(B, D) if n_tokens == 1 else torch.randn(B, n_tokens, D)


def generator():
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("n_tokens", [1, H, 5])
@pytest.mark.parametrize("name", NAMES)
def test_any_head_predicts_a_chunk_of_any_trunk_and_learns_through_it(name, n_tokens):
    built, trunk = head(name, n_tokens), torch.nn.Linear(D, D)
    said = trunk(features(n_tokens))
    assert built.predict(said).shape == (B, H, A)
    loss = built.compute_loss(said, torch.rand(B, H, A) * 2 - 1, torch.zeros(B, H, dtype=torch.bool)).loss
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad is not None for parameter in built.parameters())
    assert trunk.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_single_step_is_a_chunk_of_one(name):
    assert head(name, horizon=1).predict(features()).shape == (B, 1, A)


@pytest.mark.parametrize("name", NAMES)
def test_padding_changes_nothing_and_what_is_not_padding_does(name):
    built, said, actions = head(name).eval(), features(), torch.rand(B, H, A) * 2 - 1
    is_pad = torch.arange(H).expand(B, H) >= 4

    def loss(values, pad=is_pad):
        return built.compute_loss(said, values, pad, generator()).loss

    other = actions.clone()
    other[:, 4:] = torch.nan
    assert torch.equal(loss(actions), loss(other))
    loss(other).backward()
    assert all(parameter.grad.isfinite().all() for parameter in built.parameters())
    assert not torch.equal(loss(actions), loss(actions, torch.zeros(B, H, dtype=torch.bool)))
    assert loss(actions, torch.ones(B, H, dtype=torch.bool)) == 0.0


@pytest.mark.parametrize("name", NAMES)
def test_every_head_learns_two_situations_apart(name):
    trunk = torch.eye(2, D)
    target = torch.tensor([[0.5, -0.5, 0.25, 0.0], [-0.5, 0.5, 0.75, -0.25]])[:, None].repeat(1, 2, 1)
    more = {"diffusion": {"draws": 4}, "flow": {"draws": 4}, "transformer": {"num_layers": 2}}
    built = head(name, horizon=2, **more.get(name, {}))
    optimiser = torch.optim.Adam(built.parameters(), lr=3e-3)
    said, actions = trunk.repeat(16, 1), target.repeat(16, 1, 1)
    no_pad = torch.zeros(32, 2, dtype=torch.bool)
    for _ in range(250):
        optimiser.zero_grad()
        built.compute_loss(said, actions, no_pad).loss.backward()
        optimiser.step()
    error = (built.eval().predict(trunk.repeat(8, 1), generator()) - target.repeat(8, 1, 1)).abs().mean()
    assert error < 0.12


@pytest.mark.parametrize("name", NAMES)
def test_a_generator_fixes_what_is_sampled(name):
    built, said = head(name).eval(), features()
    assert torch.equal(built.predict(said, generator()), built.predict(said, generator()))
    differs = not torch.equal(built.predict(said, generator()), built.predict(said, torch.Generator().manual_seed(6)))
    assert differs == (name in ("diffusion", "flow"))


def test_the_guides_heads_take_the_guides_arguments():
    said = torch.randn(2, 24)
    assert MLPActionHead(24, 7)(said).shape == (2, 7)
    assert MLPActionHead(input_dim=24, action_dim=7, hidden_dim=256, chunk_size=5)(said).shape == (2, 5, 7)
    mean, log_std = GaussianMLPActionHead(24, 7)(said)
    assert mean.shape == log_std.shape == (2, 7)
    assert GaussianMLPActionHead(24, 7).sample(said).shape == (2, 7)
    diffusion = DiffusionActionHead(24, 7, horizon=16, diffusion_steps=100)
    assert diffusion.predict(said, num_steps=10).shape == (2, 16, 7)
    assert TransformerActionHead(24, 7, max_seq_len=5, num_layers=2).predict(said).shape == (2, 5, 7)


def test_gaussian_log_density_is_that_of_torch_distributions():
    built, said, actions = head("gaussian"), features(), torch.randn(B, H, A)
    mean, log_std = built(said)
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(actions)
    torch.testing.assert_close(built.log_prob(said, actions), expected)
    no_pad = torch.zeros(B, H, dtype=torch.bool)
    torch.testing.assert_close(built.compute_loss(said, actions, no_pad).loss, -expected.mean())


def test_gaussian_deviations_are_bounded_and_samples_carry_gradients():
    built = head("gaussian")
    built.log_std_head.bias.data.fill_(1e3)
    assert (built(features())[1] == 2.0).all()
    built.log_std_head.bias.data.fill_(-1e3)
    said = features().requires_grad_()
    assert (built(said)[1] == -20.0).all()
    built.log_std_head.bias.data.zero_()
    drawn = built.sample(said, generator())
    assert torch.equal(drawn, built.sample(said, generator()))
    drawn.sum().backward()
    assert said.grad.abs().sum() > 0


def scheduler(kind, clip, **options):
    made = kind(
        num_train_timesteps=100, beta_schedule="squaredcos_cap_v2", prediction_type="epsilon",
        clip_sample=clip is not None, clip_sample_range=clip or 1.0, timestep_spacing="trailing", **options,
    )  # fmt: skip
    made.set_timesteps(10)
    return made


@torch.no_grad()
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddim_sampling_is_that_of_diffusers(clip):
    built, said = head("diffusion", clip=clip).eval(), features()
    theirs, x = scheduler(DDIMScheduler, clip, set_alpha_to_one=True), built.noise(said, generator())
    for step in theirs.timesteps:
        noise = built.denoiser(x, torch.full((B,), float(step) / 100), said[:, None])
        # use_clipped_model_output: the noise that goes with the clipped estimate, as ours
        x = theirs.step(noise, step, x, eta=0.0, use_clipped_model_output=True).prev_sample
    torch.testing.assert_close(built.predict(said, generator()), x, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("clip", [None, 1.0])
def test_ddpm_sampling_is_that_of_diffusers(clip):
    diffusion, start = Diffusion(100, 10, clip), torch.randn(2, H, A)
    theirs, x = scheduler(DDPMScheduler, clip, variance_type="fixed_small"), start

    def noise(value, time):
        return torch.sin(3.0 * value) * (0.5 + time[:, None, None])

    drawn, ours = generator(), sample_ddpm(diffusion, noise, start, generator())
    for step in theirs.timesteps:
        x = theirs.step(noise(x, torch.full((2,), float(step) / 100)), step, x, generator=drawn).prev_sample
    torch.testing.assert_close(ours, x, rtol=1e-3, atol=1e-4)


def test_ddpm_draws_at_every_step_and_ddim_at_none():
    said = features()
    for sampler, draws in (("ddim", 1), ("ddpm", 11)):
        built, source = head("diffusion", sampler=sampler).eval(), generator()
        built.predict(said, source)
        expected = generator()
        for _ in range(draws):
            torch.randn(B, H, A, generator=expected)
        assert torch.equal(source.get_state(), expected.get_state())


@torch.no_grad()
@pytest.mark.parametrize("n_tokens", [1, 3])
def test_what_is_sampled_step_by_step_is_what_teacher_forcing_says_of_it(n_tokens):
    built, said = head("transformer", n_tokens, num_layers=3).eval(), features(n_tokens)
    sampled = built.predict(said)
    forced = built(said, sampled)
    assert torch.equal(built.bins.decode(forced.argmax(dim=-1)), sampled)


@torch.no_grad()
def test_kept_keys_and_values_change_no_logit_and_are_never_changed():
    built, memory = head("transformer").eval(), torch.randn(B, 2, 16)
    tokens = torch.randn(B, H, 16)
    whole, _ = built._logits(tokens, memory)
    kept, parts = None, []
    for place in range(H):
        before = [] if kept is None else [tuple(part.clone() for part in layer) for layer in kept]
        old = kept
        logits, kept = built._logits(tokens[:, place : place + 1], memory, kept)
        parts.append(logits)
        assert all(torch.equal(a, b) for x, y in zip(before, old or [], strict=True) for a, b in zip(x, y, strict=True))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_step_sees_itself_or_what_comes_after():
    built, said, actions = head("transformer").eval(), features(), torch.rand(B, H, A) * 2 - 1
    logits = built(said, actions)
    for step in range(H):
        changed = actions.clone()
        changed[:, step:] = -changed[:, step:]
        assert torch.equal(built(said, changed)[:, : step + 1], logits[:, : step + 1])


@torch.no_grad()
def test_temperature_draws_other_classes_and_a_generator_fixes_them():
    built, said = head("transformer", temperature=2.0).eval(), features()
    assert torch.equal(built.predict(said, generator()), built.predict(said, generator()))
    assert not torch.equal(built.predict(said, generator()), built.predict(said, torch.Generator().manual_seed(6)))
    drawn = built.predict(said)
    assert torch.equal(UniformBins().decode(UniformBins().encode(drawn)), drawn)


def test_a_flow_of_one_step_is_the_velocity_from_noise():
    built, said = head("flow").eval(), features()
    noise = built.noise(said, generator())
    with torch.no_grad():
        expected = noise + built.denoiser(noise, torch.zeros(B), said[:, None])
    torch.testing.assert_close(built.predict(said, generator(), num_steps=1), expected)


@pytest.mark.parametrize("name", ["diffusion", "flow"])
def test_several_draws_share_the_features(name):
    built, said = head(name, draws=5), features()
    loss = built.compute_loss(said, torch.zeros(B, H, A), torch.zeros(B, H, dtype=torch.bool), generator()).loss
    assert loss.isfinite()


def test_a_head_of_another_package_needs_a_forward_alone():
    class MyActionHead(ActionHeadBase):
        def __init__(self, input_dim, action_dim, horizon=1, n_tokens=1):
            super().__init__(input_dim, action_dim, horizon, n_tokens)
            self.linear = torch.nn.Linear(input_dim * n_tokens, horizon * action_dim)

        def forward(self, features):
            return self.linear(features.flatten(1)).view(-1, self.horizon, self.action_dim)

    ACTION_HEAD_REGISTRY["my_head"] = MyActionHead
    try:
        built = head("my_head", 2)
        assert built.predict(features(2)).shape == (B, H, A)
        said = built.compute_loss(features(2), torch.zeros(B, H, A), torch.zeros(B, H, dtype=torch.bool))
        assert said.loss.requires_grad
    finally:
        del ACTION_HEAD_REGISTRY["my_head"]


def test_what_is_no_head_cannot_be_registered():
    with pytest.raises(ConfigError, match="is no subclass of vla_ros"):
        ACTION_HEAD_REGISTRY["my_head"] = torch.nn.Linear


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("mpl", {}, "Did you mean 'mlp'"),
        ("mlp", {"depth": 3}, "action head 'mlp' cannot be built with depth"),
        ("mlp", {"horizon": 0}, "horizon=0 must be at least 1"),
        ("diffusion", {"sampler": "euler"}, "sampler 'euler' is not one of ddim, ddpm"),
        ("diffusion", {"sample_steps": 200}, "sample_steps=200 exceeds train_steps=100"),
        ("flow", {"flow_steps": 0}, "flow_steps=0 must be at least 1"),
        ("flow", {"n_heads": 5}, "n_heads=5 must divide width=16"),
        ("transformer", {"bins": 1}, "bins=1 must be at least 2"),
        ("diffusion", {"draws": 0}, "draws=0 must be at least 1"),
    ],
)
def test_heads_that_cannot_be_are_refused(name, options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        head(name, **options)


def test_flow_head_is_the_one_registered():
    assert isinstance(head("flow"), FlowMatchingActionHead)
