"""Small networks: a backbone, a pooling, a trunk and a head."""

from collections.abc import Sequence

from torch import Tensor, nn

from vla_ros.networks.vision.backbones import Backbone
from vla_ros.networks.vision.film_trunks import FilmTrunk


class Edges(Backbone):
    """One convolution."""

    def __init__(self, image_size: tuple[int, int]) -> None:
        super().__init__()
        height, width = image_size
        self.filter = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.map_shape = (6, (height + 1) // 2, (width + 1) // 2)

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return maps, float [N, 6, h/2, w/2]."""
        maps_NChw: Tensor = self.filter(images_N3hw).relu()
        return maps_NChw


class MaxPool(nn.Module):
    """The largest value of each map."""

    def __init__(self, map_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.feature_dim = map_shape[0]

    def forward(self, maps_NChw: Tensor) -> Tensor:
        """Return [N, C]."""
        return maps_NChw.amax(dim=(2, 3))


class Trunk(FilmTrunk):
    """The backbone, its maps moved by what is asked for."""

    def __init__(self, image_size: tuple[int, int], condition_dim: int) -> None:
        super().__init__()
        self.edges = Edges(image_size)
        self.shift = nn.Linear(condition_dim, 6) if condition_dim else None
        self.map_shape = self.edges.map_shape

    def forward(self, images_N3hw: Tensor, condition_NE: Tensor | None) -> Tensor:
        """Return maps, float [N, 6, h/2, w/2]."""
        maps_NChw: Tensor = self.edges(images_N3hw)
        return maps_NChw if self.shift is None else maps_NChw + self.shift(condition_NE)[..., None, None]


def linear_head(input_dim: int, hidden_dims: Sequence[int], output_dim: int, dropout: float) -> nn.Module:
    """Return a head without hidden layers."""
    return nn.Linear(input_dim, output_dim)
