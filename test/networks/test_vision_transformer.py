import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks import CameraTokens, TextTokens, VisionOptions, VisionTransformer
from vla_ros.networks.vision.image_tokens import build_image_tokens

TINY = {"patch_size": 4, "width": 12, "depth": 2, "n_heads": 3, "mlp_dim": 20}


def test_tokens_are_the_patches_in_reading_order():
    vit = VisionTransformer((8, 12), **TINY)
    vit.layers, vit.final_norm = torch.nn.ModuleList(), torch.nn.Identity()
    image = torch.randn(1, 3, 8, 12)
    tokens = vit(image)
    assert tokens.shape == (1, 6, 12)
    changed = image.clone()
    changed[:, :, 4:, 8:] += 1.0  # second row, third column
    different = (vit(changed) != tokens).any(-1)[0]
    assert different.tolist() == [False, False, False, False, False, True]


def test_an_image_that_patches_do_not_divide_is_refused():
    with pytest.raises(ConfigError, match="patch_size=5 must divide the image of 8×8"):
        VisionTransformer((8, 8), **{**TINY, "patch_size": 5})


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ConfigError, match="n_heads=5 must divide width=12"):
        VisionTransformer((8, 8), **{**TINY, "n_heads": 5})


@pytest.mark.parametrize("kind", ["vit", "keypoints"])
def test_image_tokens_have_the_count_and_width_asked_for(kind):
    options = VisionOptions(kind=kind, **(TINY if kind == "vit" else {"n_tokens": 5}))
    tokens = build_image_tokens(options, (16, 16), 10)
    assert tokens(torch.randn(2, 3, 16, 16)).shape == (2, tokens.n_tokens, 10)
    assert tokens.n_tokens == (16 if kind == "vit" else 5)


def test_each_camera_has_its_encoder_unless_they_share_one():
    sizes = [(8, 8), (8, 8)]
    shared = CameraTokens(VisionOptions(**TINY), sizes, [0, 1], 10)
    own = CameraTokens(VisionOptions(share=False, **TINY), sizes, [0, 1], 10)
    image, valid = torch.randn(2, 3, 8, 8), torch.ones(2, 2, dtype=torch.bool)
    (first, second), (own_first, own_second) = (m([image, image], valid)[0].chunk(2, 1) for m in (shared, own))
    torch.testing.assert_close(first, second)
    assert not torch.allclose(own_first, own_second)


def test_images_come_back_in_order_whatever_encoder_takes_them():
    cameras = CameraTokens(VisionOptions(share=False, **TINY), [(8, 8), (8, 8)], [0, 1, 0], 10)
    images, valid = [torch.randn(2, 3, 8, 8) for _ in range(3)], torch.ones(2, 3, dtype=torch.bool)
    parts = cameras(images, valid)[0].chunk(3, 1)
    for part, image, camera in zip(parts, images, [0, 1, 0], strict=True):
        torch.testing.assert_close(part, cameras.encoders[camera](image))


def test_an_image_that_is_not_there_changes_nothing_even_as_nan():
    cameras = CameraTokens(VisionOptions(**TINY), [(8, 8)], [0, 0], 10)
    valid = torch.tensor([[True, False], [True, True]])
    images = [torch.randn(2, 3, 8, 8) for _ in range(2)]
    broken = [images[0], images[1].clone()]
    broken[1][0] = torch.nan
    tokens, valid_tokens = cameras(images, valid)
    torch.testing.assert_close(cameras(broken, valid)[0], tokens)
    assert valid_tokens.tolist() == [[True] * 4 + [False] * 4, [True] * 8]


def test_text_tokens_are_scaled_by_the_root_of_the_width_and_padding_is_not_read():
    text = TextTokens(7, 16)
    valid = torch.tensor([[True, True, False]])
    tokens = text(torch.tensor([[3, 6, -100]]), valid)
    torch.testing.assert_close(tokens[0, :2], text.embedding.weight[[3, 6]] * 4.0)
    torch.testing.assert_close(tokens, text(torch.tensor([[3, 6, 5]]), valid))
