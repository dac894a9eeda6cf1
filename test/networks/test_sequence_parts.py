import pytest
import torch

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.block import Block, BlockOptions
from vla_ros.networks.attention.transformer import CausalTransformer
from vla_ros.networks.temporal.frame_padding import frame_sources, without_padding
from vla_ros.networks.vision.image_patches import check_patch_size, image_patches


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def block_of(width, n_heads):
    return Block(
        BlockOptions(
            width=width, n_heads=n_heads, mlp_dim=4 * width, norm_first=True, activation="gelu", qkv_bias=False
        )
    ).eval()


def test_patches_follow_the_guides_arrangement():
    """``b (h p1) (w p2) (c t) -> b (h w t) (p1 p2 c)``, element by element."""
    images = torch.randn(2, 3, 4, 6, 9)
    patches = image_patches(images, 3)
    assert patches.shape == (2, 2 * 3 * 3, 3 * 3 * 4)
    for b, t, c, row, column in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 4, 6, 9))).tolist():
        token = ((row // 3) * 3 + column // 3) * 3 + t
        number = ((row % 3) * 3 + column % 3) * 4 + c
        assert patches[b, token, number] == images[b, t, c, row, column]


def test_patches_must_tile_the_image():
    with pytest.raises(ConfigError, match="patch_size=8 does not divide the image of 84×84"):
        check_patch_size((84, 84), 8)


def test_a_block_attends_to_visible_tokens_only():
    block = block_of(16, 4)
    tokens, visible = torch.randn(2, 5, 16), torch.tensor([[1, 1, 0, 1, 0], [1, 0, 1, 1, 1]]).bool()
    other = torch.where(visible[..., None], tokens, torch.randn(2, 5, 16))
    mine, others = block(tokens, allow=visible), block(other, allow=visible)
    torch.testing.assert_close(mine[visible], others[visible])
    assert not torch.allclose(block(tokens)[:, 0], mine[:, 0])


def test_one_mask_for_all_samples_is_as_good_as_one_each():
    block = block_of(16, 4)
    tokens, visible = torch.randn(2, 5, 16), torch.tensor([1, 0, 1, 1, 0]).bool()
    torch.testing.assert_close(block(tokens, allow=visible), block(tokens, allow=visible.expand(2, 5)))


def test_attention_is_scaled_by_the_width_of_a_head():
    block = block_of(8, 2)
    tokens = torch.randn(1, 3, 8)
    normed = block.attention_norm(tokens)
    query, key, value = (
        part(normed).view(3, 2, 4) for part in (block.attention.query, block.attention.key, block.attention.value)
    )
    scores = torch.einsum("qhd,khd->hqk", query, key) * 4**-0.5
    attended = torch.einsum("hqk,khd->qhd", scores.softmax(-1), value).reshape(1, 3, 8)
    expected = tokens + block.attention.output(attended)
    expected = expected + block.mlp(block.mlp_norm(expected))
    torch.testing.assert_close(block(tokens), expected)


@pytest.mark.parametrize(
    "build", [block_of, lambda w, h: CausalTransformer(4, w, depth=1, n_heads=h, mlp_dim=8, dropout=0.0)]
)
def test_heads_must_divide_the_width(build):
    with pytest.raises(ConfigError, match="n_heads=3 must divide"):
        build(16, 3)


@pytest.mark.parametrize("training", [False, True])
def test_a_token_of_the_causal_transformer_sees_none_after_it(training):
    transformer = CausalTransformer(6, 16, depth=2, n_heads=4, mlp_dim=32, dropout=0.0).train(training)
    tokens = torch.randn(1, 6, 16)
    before = transformer(tokens)
    changed = tokens.clone()
    changed[:, 3] = torch.randn(16)
    after = transformer(changed)
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert ((before - after).abs().amax(dim=(0, 2)) > 1e-6).tolist() == [False] * 3 + [True] * 3


def test_frames_before_the_begin_become_the_first_true_one():
    values = torch.arange(8.0).view(2, 4)
    is_pad = torch.tensor([[1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    assert without_padding(values, is_pad).tolist() == [[2, 2, 2, 3], [4, 5, 6, 7]]


def test_the_newest_frame_is_never_padding():
    assert frame_sources(torch.ones(1, 3, dtype=torch.bool)).tolist() == [[2, 2, 2]]


def test_padding_is_only_at_the_begin():
    assert frame_sources(torch.tensor([[False, True, False]])).tolist() == [[0, 1, 2]]
