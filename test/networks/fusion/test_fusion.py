"""Fusion: who reads whom, absent sensors, and that a sample is fused as it would be alone."""

import pytest
import torch
from torch import nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.fusion import (
    AbsentTokens,
    Concatenation,
    CrossAttention,
    CrossModalFusion,
    HierarchicalFusion,
    drop_modalities,
)
from vla_ros.networks.sensors import SensorTokens

NAMES = ("vision", "lidar", "radar")
WIDTH = 16


def sensors(batch: int = 4, seed: int = 0) -> dict[str, SensorTokens]:
    generator = torch.Generator().manual_seed(seed)
    said = {
        name: SensorTokens(torch.randn(batch, n, WIDTH, generator=generator), torch.ones(batch, n, dtype=torch.bool))
        for name, n in zip(NAMES, (5, 3, 2), strict=True)
    }
    said["lidar"].valid_BN[1:, 2] = False
    said["radar"].valid_BN[2:3] = False
    return {name: SensorTokens(torch.where(v[..., None], t, 0.0), v) for name, (t, v) in said.items()}


def fusions() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "concatenation": Concatenation(NAMES, WIDTH),
        "cross_modal": CrossModalFusion(NAMES, WIDTH, n_heads=2),
        "hierarchical": HierarchicalFusion(NAMES, WIDTH, n_heads=2, scene=("lidar", "radar")),
    }


@pytest.mark.parametrize("name", fusions())
class TestEveryFusion:
    def test_a_sample_is_fused_as_it_would_be_alone(self, name: str) -> None:
        fusion, said = fusions()[name], sensors()
        together = fusion(said)
        assert together.tokens_BND.shape == (4, 10, WIDTH)
        assert torch.isfinite(together.tokens_BND).all()
        for row in range(4):
            alone = fusion({k: SensorTokens(t[row : row + 1], v[row : row + 1]) for k, (t, v) in said.items()})
            torch.testing.assert_close(together.tokens_BND[row : row + 1], alone.tokens_BND)
            assert torch.equal(together.valid_BN[row : row + 1], alone.valid_BN)

    def test_tokens_that_are_not_valid_change_nothing(self, name: str) -> None:
        fusion, said = fusions()[name], sensors()
        noisy = {k: SensorTokens(torch.where(v[..., None], t, 7.0), v) for k, (t, v) in said.items()}
        expected, got = fusion(said), fusion(noisy)
        valid = expected.valid_BN
        torch.testing.assert_close(got.tokens_BND[valid], expected.tokens_BND[valid])


def test_cross_modal_tokens_read_the_others_and_not_their_own_modality() -> None:
    fusion, said = CrossModalFusion(NAMES, WIDTH, n_heads=2, n_layers=1), sensors(1)
    before = fusion(said).tokens_BND
    said["lidar"].tokens_BND[0, 0, 0] += 1.0
    after = fusion(said).tokens_BND
    changed = (before - after).abs().sum(-1)[0] > 1e-6
    # of the LiDAR itself only the token that changed
    assert changed.tolist() == [True] * 5 + [True, False, False] + [True] * 2


def test_in_one_stage_each_the_scene_is_made_before_vision_reads_it() -> None:
    fusion = HierarchicalFusion(NAMES, WIDTH, n_heads=2, n_layers=1, scene=("lidar", "radar"))
    said = sensors(1)
    said["vision"].tokens_BND.requires_grad_()
    scene = fusion.first(said).tokens_BND
    assert torch.autograd.grad(scene.sum(), said["vision"].tokens_BND, allow_unused=True) == (None,)


def test_attention_is_torchs() -> None:
    torch.manual_seed(0)
    block, reference = CrossAttention(WIDTH, 4), nn.MultiheadAttention(WIDTH, 4, batch_first=True)
    reference.load_state_dict(
        {
            "in_proj_weight": torch.cat([block.query.weight, block.key_value.weight]),
            "in_proj_bias": torch.cat([block.query.bias, block.key_value.bias]),
            "out_proj.weight": block.output.weight,
            "out_proj.bias": block.output.bias,
        }
    )
    queries, context = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH)
    valid = torch.rand(3, 7) < 0.7
    valid[:, 0] = True
    normed = block.context_norm(context)
    expected, _ = reference(block.query_norm(queries), normed, normed, key_padding_mask=~valid)
    torch.testing.assert_close(block(queries, context, valid), expected)


class TestAbsentSensors:
    def test_an_absent_sensor_says_its_learned_token_and_a_present_one_does_not(self) -> None:
        absent = AbsentTokens(("lidar", "radar"), WIDTH)
        said = absent(sensors())
        assert said["vision"].tokens_BND.shape[1] == 5
        assert said["radar"].tokens_BND.shape[1] == 3
        assert said["radar"].valid_BN[:, -1].tolist() == [False, False, True, False]
        assert torch.equal(said["radar"].tokens_BND[2, -1], absent.tokens_MD[1])
        assert not said["radar"].tokens_BND[0, -1].any()
        assert not said["lidar"].valid_BN[:, -1].any()

    def test_dropping_hides_the_given_share_and_never_everything(self) -> None:
        batch = 4000
        said = {name: SensorTokens(torch.ones(batch, 2, 4), torch.ones(batch, 2, dtype=torch.bool)) for name in NAMES}
        dropped = drop_modalities(said, ("lidar", "radar"), 0.2, torch.Generator().manual_seed(0))
        hidden = {name: (~dropped[name].valid_BN.any(1)).float().mean().item() for name in NAMES}
        assert hidden["vision"] == 0
        assert hidden["lidar"] == pytest.approx(0.2, abs=0.02)
        assert not dropped["lidar"].tokens_BND[~dropped["lidar"].valid_BN].any()
        only = drop_modalities(
            {k: said[k] for k in ("lidar", "radar")}, ("lidar", "radar"), 0.9, torch.Generator().manual_seed(0)
        )
        assert (only["lidar"].valid_BN.any(1) | only["radar"].valid_BN.any(1)).all()

    def test_what_is_already_absent_does_not_count_as_left(self) -> None:
        said = {name: SensorTokens(torch.ones(500, 1, 4), torch.ones(500, 1, dtype=torch.bool)) for name in NAMES[1:]}
        said["radar"].valid_BN[:] = False
        dropped = drop_modalities(said, ("lidar", "radar"), 0.5, torch.Generator().manual_seed(0))
        assert dropped["lidar"].valid_BN.all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: CrossModalFusion(("vision",), WIDTH), "at least two"),
        (lambda: CrossModalFusion(NAMES, WIDTH, n_heads=3), "divide"),
        (lambda: HierarchicalFusion(NAMES, WIDTH, scene=("lidar", "sonar")), "sonar"),
        (lambda: HierarchicalFusion(NAMES, WIDTH, scene=("lidar",)), "at least two"),
        (lambda: HierarchicalFusion(NAMES, WIDTH, scene=NAMES), "left for the second"),
    ],
)
def test_a_fusion_that_cannot_be_says_why(build: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build()  # type: ignore[operator]
