"""Sensor encoders: published counts, independence of order, padding and batch, and what they refuse."""

import pytest
import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.sensors import LstmWindow, PointNet2, SensorEncoder, build_sensor_encoder

CLOUD = (48, 4)
SMALL_POINTNET = {
    "stages": ((16, 0.8, 8), (6, 1.6, 4)),
    "channels": ((8, 16), (16, 24), (24, 32)),
}
ENCODERS = {
    "pointnet2": (CLOUD, SMALL_POINTNET),
    "pointnet2 regions": (CLOUD, {**SMALL_POINTNET, "regions": True}),
    "pillars": (CLOUD, {"x_range": (-3, 3), "y_range": (-3, 3), "cell": 0.5, "channels": 8, "grid": (4, 4)}),
    "range_image": (CLOUD, {"rings": 4, "azimuths": 32, "channels": 8, "sectors": 4, "elevation": (-0.5, 0.5)}),
    "range_image one ring": (CLOUD, {"azimuths": 32, "channels": 8, "sectors": 4}),
    "radar_points": ((10, 5), {"channels": (16,)}),
    "radar_points pooled": ((10, 5), {"channels": (16,), "pooled": True}),
    "raster": ((48, 1), {"rows": 6, "channels": 4, "grid": (2, 2)}),
    "range_doppler flat": ((48, 1), {"rows": 6, "channels": 4, "grid": (2, 3)}),
    "range_doppler": ((1, 16, 12), {"channels": 4, "grid": (2, 3)}),
    "lstm": ((20, 6), {}),
    "conv1d": ((20, 6), {"channels": 8}),
    "linear": ((6,), {}),
}
SETS = ("pointnet2", "pillars", "range_image", "range_image one ring", "radar_points pooled")
WIDTH = 24


def make(case: str) -> SensorEncoder:
    torch.manual_seed(0)
    shape, options = ENCODERS[case]
    return build_sensor_encoder(case.split(maxsplit=1)[0], shape, WIDTH, **options).eval()


def values_of(case: str, batch: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, *ENCODERS[case][0], generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", ENCODERS)
class TestEveryEncoder:
    def test_says_the_shape_of_its_tokens(self, case: str) -> None:
        encoder = make(case)
        tokens, valid = encoder(values_of(case, 3))
        assert tokens.shape == (3, encoder.n_tokens, encoder.width)
        assert valid.shape == tokens.shape[:2]
        assert valid.dtype == torch.bool
        assert valid.all()
        assert encoder.width == WIDTH

    def test_what_was_not_measured_is_zero_and_not_valid(self, case: str) -> None:
        values = values_of(case, 2)
        values[1] = torch.nan
        tokens, valid = make(case)(values)
        assert valid[0].any()
        assert not valid[1].any()
        assert not tokens[1].any()

    def test_a_sample_is_encoded_as_it_would_be_alone(self, case: str) -> None:
        encoder, values = make(case), values_of(case, 4)
        values[2] = torch.nan
        together = encoder(values)
        for row in range(4):
            alone = encoder(values[row : row + 1])
            torch.testing.assert_close(together.tokens_BND[row : row + 1], alone.tokens_BND)
            assert torch.equal(together.valid_BN[row : row + 1], alone.valid_BN)

    def test_gradients_are_finite_where_a_sample_is_missing(self, case: str) -> None:
        encoder, values = make(case), values_of(case, 3)
        values[0] = torch.nan
        encoder(values).tokens_BND.square().sum().backward()
        gradients = [p.grad for p in encoder.parameters()]
        assert all(g is not None and torch.isfinite(g).all() for g in gradients)
        assert any(g is not None and g.any() for g in gradients)


@pytest.mark.parametrize("case", SETS)
class TestPointsAreASet:
    def test_their_order_changes_nothing(self, case: str) -> None:
        encoder, values = make(case), values_of(case, 2)
        order = torch.randperm(values.shape[1], generator=torch.Generator().manual_seed(5))
        torch.testing.assert_close(encoder(values[:, order]).tokens_BND, encoder(values).tokens_BND)

    def test_rows_without_a_point_change_nothing(self, case: str) -> None:
        encoder, values = make(case), values_of(case, 2)
        few = values[:, :7]
        padded = torch.full_like(values, torch.nan)
        padded[:, -8:-1] = few
        torch.testing.assert_close(encoder(padded).tokens_BND, encoder(few).tokens_BND)


def test_targets_of_a_radar_keep_their_rows() -> None:
    encoder, values = make("radar_points"), values_of("radar_points", 1)
    values[0, 3] = torch.nan
    tokens, valid = encoder(values)
    assert valid[0].tolist() == [row != 3 for row in range(10)]
    assert not tokens[0, 3].any()


def test_pointnet_has_the_published_size() -> None:
    # Qi et al. 2017 with x, y, z, intensity in and 512 numbers out; computed by hand: 12,800 + 66,432 + 723,456 in the
    # three stages, 5,120 in their norms, 524,800 in the last layer
    assert sum(p.numel() for p in PointNet2((1024, 4), 512).parameters()) == 1_332_608


def test_the_lstm_is_torchs_of_128_numbers() -> None:
    encoder = LstmWindow((20, 6), 128)
    assert sum(p.numel() for p in encoder.parameters()) == 201_728
    reference = nn.LSTM(6, 128, num_layers=2, batch_first=True)
    reference.load_state_dict(encoder.lstm.state_dict())
    windows = torch.randn(3, 20, 6)
    assert torch.equal(encoder(windows).tokens_BND[:, 0], reference(windows)[0][:, -1])


@pytest.mark.parametrize(
    ("name", "shape", "options", "words"),
    [
        ("pointnet2", (48, 2), {}, "x, y, z first"),
        ("pointnet2", (6,), {}, "points"),
        ("pointnet2", (48, 3), {"stages": ((4, 0.2, 2),)}, "two stages"),
        ("pillars", (48, 3), {"x_range": (1.0, 1.0)}, "span no cells"),
        ("pillars", (48, 3), {"cell": 1e-6}, "at most"),
        ("range_image", (48, 3), {"azimuths": 30}, "multiple"),
        ("conv1d", (3, 6), {}, "at least 4"),
        ("lstm", (6,), {}, "windows"),
        ("lstm", (20, 6), {"n_layer": 2}, "n_layer"),
        ("point_net", (48, 3), {}, "pointnet2"),
    ],
)
def test_what_cannot_be_built_says_why(
    name: str, shape: tuple[int, ...], options: dict[str, object], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build_sensor_encoder(name, shape, WIDTH, **options)
