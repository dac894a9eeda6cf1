import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks import load_backbone_weights
from vla_ros.networks.vision.efficientnet import EfficientNetB3
from vla_ros.networks.vision.film import Film
from vla_ros.networks.vision.film_tokens import FilmTokens
from vla_ros.networks.vision.film_trunks import FilmConvStack, FilmEfficientNet
from vla_ros.networks.vision.torchvision_operators import declare_torchvision_operators

OPTIONS = {"n_tokens": 8, "hidden_dim": 64, "weights": "sigmoid"}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def torchvisions():
    declare_torchvision_operators()
    models = pytest.importorskip("torchvision.models", exc_type=ImportError)
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
        network = EfficientNetB3((300, 300))
    assert len(list(network.blocks())) == 26
    assert sum(p.numel() for p in network.parameters()) == 10_103_336
    assert network.map_shape == (384, 10, 10)


@torch.no_grad()
def test_our_efficientnet_with_torchvisions_weights_equals_torchvisions(torchvisions, tmp_path):
    torch.save(torchvisions.state_dict(), tmp_path / "weights.pth")
    ours = EfficientNetB3((70, 50)).eval()
    load_backbone_weights(ours, tmp_path / "weights.pth")
    images = torch.randn(2, 3, 70, 50)
    maps = ours(images)
    assert maps.shape[1:] == ours.map_shape
    torch.testing.assert_close(maps, torchvisions.features[:8](images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_film_at_its_start_leaves_torchvisions_output_unchanged(torchvisions):
    ours = FilmEfficientNet((64, 64), 16).eval()
    ours.backbone.load_state_dict(ours.backbone.translate_weights(torchvisions.state_dict()))
    images, expected = torch.randn(2, 3, 64, 64), None
    for condition in (torch.randn(2, 16), 100 * torch.randn(2, 16)):
        expected = torchvisions.features[:8](images)
        torch.testing.assert_close(ours(images, condition), expected, rtol=1e-4, atol=1e-5)
    assert len(ours.films) == 26
    ours.films[25].linear.bias.data.fill_(0.5)
    assert not torch.allclose(ours(images, condition), expected)


@torch.no_grad()
@pytest.mark.parametrize("trunk", [FilmEfficientNet, FilmConvStack])
def test_every_film_layer_reaches_the_output(trunk):
    network, images = trunk((40, 40), 4).eval(), torch.randn(1, 3, 40, 40)
    before = network(images, torch.ones(1, 4))
    for film in network.films:
        film.linear.bias.data.fill_(0.1)
        after = network(images, torch.ones(1, 4))
        assert not torch.equal(before, after)
        before = after


@pytest.mark.parametrize("trunk", [FilmEfficientNet, FilmConvStack])
def test_without_a_condition_there_is_no_film(trunk):
    network = trunk((40, 40), 0).eval()
    assert not len(network.films)
    assert network(torch.randn(2, 3, 40, 40), None).shape == (2, *network.map_shape)


def test_stochastic_depth_drops_whole_images_in_training_only():
    network = EfficientNetB3((32, 32))
    block = list(network.blocks())[-1]
    assert 0.1 < block.drop_share < 0.2
    maps = torch.randn(200, 384, 1, 1)
    for batch_norm in (m for m in block.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        batch_norm.eval()
    dropped = (block(maps) == maps).flatten(1).all(dim=1)
    assert 5 < dropped.sum() < 80
    block.eval()
    assert not (block(maps) == maps).flatten(1).all(dim=1).any()


def test_images_that_stochastic_depth_keeps_make_up_for_the_dropped_ones():
    block = list(EfficientNetB3((32, 32)).blocks())[-1].eval()
    maps = torch.randn(50, 384, 1, 1)
    whole = block(maps) - maps
    block.training, block.drop_share = True, 0.5
    added = block(maps) - maps
    kept = added.flatten(1).any(dim=1)
    assert 0 < kept.sum() < 50
    torch.testing.assert_close(added[kept], whole[kept] / (1.0 - block.drop_share), rtol=1e-4, atol=1e-5)


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
