import pytest
import torch
from torchvision import models

from vla_ros.data_types import ConfigError
from vla_ros.networks import load_backbone_weights
from vla_ros.networks.vision.efficientnet import efficientnet_b3
from vla_ros.networks.vision.film import Film
from vla_ros.networks.vision.film_tokens import FilmTokens
from vla_ros.networks.vision.film_trunks import FilmConvStack, film_efficientnet_b3, film_efficientnet_lite0

TRUNKS = [film_efficientnet_b3, film_efficientnet_lite0, FilmConvStack]
OPTIONS = {"n_tokens": 8, "hidden_dim": 64, "weights": "sigmoid"}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def torchvisions():
    torch.manual_seed(1)
    network = models.efficientnet_b3(weights=None)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: nothing at 0 or 1
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.normal_(std=0.1)
    return network.eval()


def test_film_scales_and_shifts_each_channel():
    film = Film(2, 3)
    film.linear.weight.data.normal_()
    film.linear.bias.data.normal_()
    maps, condition = torch.randn(4, 3, 5, 6), torch.randn(4, 2)
    gamma, beta = film.linear(condition).split(3, dim=1)
    expected = torch.stack([(1 + gamma[i, c]) * maps[i, c] + beta[i, c] for i in range(4) for c in range(3)])
    torch.testing.assert_close(film(maps, condition), expected.view(4, 3, 5, 6))


def test_efficientnet_has_26_blocks_and_384_maps():
    with torch.device("meta"):
        network = efficientnet_b3((300, 300))
    assert len(list(network.each_block())) == 26
    assert sum(p.numel() for p in network.parameters()) == 10_103_336
    assert network.map_shape == (384, 10, 10)


@torch.no_grad()
def test_efficientnets_maps_are_what_torchvisions_last_convolution_gets(torchvisions, tmp_path):
    torch.save(torchvisions.state_dict(), tmp_path / "weights.pth")
    ours = efficientnet_b3((70, 50)).eval()
    load_backbone_weights(ours, tmp_path / "weights.pth")
    images = torch.randn(2, 3, 70, 50)
    maps = ours(images)
    assert maps.shape[1:] == ours.map_shape
    torch.testing.assert_close(maps, torchvisions.features[:8](images), rtol=0, atol=0)


@torch.no_grad()
def test_film_at_its_start_leaves_torchvisions_output_unchanged(torchvisions):
    ours = film_efficientnet_b3((64, 64), 16).eval()
    ours.backbone.load_state_dict(ours.backbone.translate_weights(torchvisions.state_dict()))
    images, expected = torch.randn(2, 3, 64, 64), None
    for condition in (torch.randn(2, 16), 100 * torch.randn(2, 16)):
        expected = torchvisions.features[:8](images)
        torch.testing.assert_close(ours(images, condition), expected, rtol=0, atol=0)
    assert len(ours.films) == 26
    ours.films[25].linear.bias.data.fill_(0.5)
    assert not torch.allclose(ours(images, condition), expected)


@torch.no_grad()
@pytest.mark.parametrize("trunk", TRUNKS)
def test_every_film_layer_reaches_the_output(trunk):
    network, images = trunk((40, 40), 4).eval(), torch.randn(1, 3, 40, 40)
    before = network(images, torch.ones(1, 4))
    for film in network.films:
        film.linear.bias.data.fill_(0.1)
        after = network(images, torch.ones(1, 4))
        assert not torch.equal(before, after)
        before = after


@pytest.mark.parametrize("trunk", TRUNKS)
def test_without_a_condition_there_is_no_film(trunk):
    network = trunk((40, 40), 0).eval()
    assert not len(network.films)
    assert network(torch.randn(2, 3, 40, 40), None).shape == (2, *network.map_shape)


def test_efficientnet_trains_with_stochastic_depth_that_grows_to_a_fifth():
    rates = [block.stochastic_depth.p for block, _ in efficientnet_b3((32, 32)).each_block()]
    assert rates == sorted(rates)
    assert rates[0] == 0.0
    assert rates[-1] == pytest.approx(0.2 * 25 / 26)


def test_images_too_small_for_the_small_trunk_are_refused():
    with pytest.raises(ConfigError, match="trunk 'small_conv' needs images of at least 4×4"):
        FilmConvStack((3, 8), 0)


def test_an_image_becomes_81_places_and_8_tokens():
    tokens = FilmTokens("efficientnet_b3", (64, 64), 16, 32, grid=9, **OPTIONS).eval()
    images, condition = torch.randn(1, 3, 64, 64), torch.randn(1, 16)
    assert tokens.places(images, condition).shape == (1, 81, 32)
    assert tokens(images, condition).shape == (1, 8, 32)


def test_places_are_pooled_projected_and_in_reading_order():
    tokens = FilmTokens("small_conv", (84, 84), 0, 6, grid=None, **{**OPTIONS, "n_tokens": 0}).eval()
    images = torch.randn(2, 3, 84, 84)
    places = tokens(images, None)
    assert (tokens.n_tokens, places.shape) == (121, (2, 121, 6))
    maps = tokens.trunk(images, None)
    torch.testing.assert_close(places[1, 11 * 4 + 7], tokens.projector(maps)[1, :, 4, 7])


def test_the_small_trunk_says_where_each_place_is():
    maps = FilmConvStack((84, 84), 0)(torch.randn(1, 3, 84, 84), None)
    x, y = maps[0, -2], maps[0, -1]
    assert (x[:, 0] == -1).all()
    assert (x[:, -1] == 1).all()
    assert (y[0] == -1).all()
    assert (y[-1] == 1).all()
