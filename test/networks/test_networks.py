import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks import (
    AveragePool,
    ConvStack,
    ImageEncoder,
    SpatialSoftmax,
    build_backbone,
    mlp,
    register_backbone,
)


def parameters(module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_conv_stack_has_the_published_maps_and_parameters():
    stack = ConvStack((84, 84))
    assert parameters(stack) == 112_864
    sizes, maps = [], torch.zeros(1, 3, 84, 84)
    for layer in stack.layers:
        maps = layer(maps)
        if isinstance(layer, torch.nn.Conv2d):
            sizes.append(maps.shape[-1])
    assert sizes == [21, 11, 11, 11]
    assert maps.shape[1:] == stack.map_shape == (64, 11, 11)


@pytest.mark.parametrize("size", [(48, 64), (64, 64), (96, 128), (4, 4)])
def test_conv_stack_announces_the_maps_it_makes(size):
    stack = ConvStack(size)
    assert stack(torch.zeros(2, 3, *size)).shape[1:] == stack.map_shape


def test_image_too_small_is_refused():
    with pytest.raises(ConfigError, match="at least 4×4"):
        ConvStack((3, 84))


def test_unknown_backbone_names_the_nearest():
    with pytest.raises(ConfigError, match=r"'cnm' is not one of .*Did you mean 'cnn'\?"):
        build_backbone("cnm", (84, 84))


def test_registered_backbone_can_be_built_and_no_name_is_taken_twice():
    register_backbone("test_conv", ConvStack)
    assert isinstance(build_backbone("test_conv", (84, 84)), ConvStack)
    with pytest.raises(ValueError, match="exists already"):
        register_backbone("test_conv", AveragePool)


def test_spatial_softmax_returns_the_position_of_a_peak():
    pool = SpatialSoftmax((2, 11, 11))
    maps = torch.zeros(1, 2, 11, 11)
    maps[0, 0, 0, 10] = 100.0  # top right
    maps[0, 1, 5, 5] = 100.0  # centre
    x0, x1, y0, y1 = pool(maps)[0].tolist()
    assert (x0, y0) == pytest.approx((1.0, -1.0), abs=1e-4)
    assert (x1, y1) == pytest.approx((0.0, 0.0), abs=1e-4)


def test_spatial_softmax_moves_with_the_image_where_averaging_does_not():
    maps = torch.rand(1, 4, 9, 9) * 5
    moved = maps.roll(2, dims=3)
    shape = (4, 9, 9)
    torch.testing.assert_close(AveragePool(shape)(maps), AveragePool(shape)(moved))
    assert not torch.allclose(SpatialSoftmax(shape)(maps), SpatialSoftmax(shape)(moved), atol=1e-2)


def test_image_encoder_width_is_that_of_its_pooling():
    for pooling, width in (("average", 64), ("spatial_softmax", 128)):
        encoder = ImageEncoder("cnn", pooling, (84, 84))
        assert encoder.feature_dim == width
        assert encoder(torch.zeros(2, 3, 84, 84)).shape == (2, width)
    with pytest.raises(ConfigError, match="Did you mean 'average'"):
        ImageEncoder("cnn", "averag", (84, 84))


def test_mlp_drops_out_after_hidden_layers_only():
    kinds = [type(layer).__name__ for layer in mlp(3, (5, 6), 2, 0.3)]
    assert kinds == ["Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]
