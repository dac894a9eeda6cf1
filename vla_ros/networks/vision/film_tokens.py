"""Image and conditioning vector → a few learned tokens: trunk, 1×1 convolution, TokenLearner. No cameras, no history.

Axis legend: N images, h, w pixels, P places of the feature map, K tokens per image, D width, E of the condition.
"""

from torch import Tensor, nn

from vla_ros.networks.projectors.token_learner import TokenLearner, TokenWeights
from vla_ros.networks.vision.film_trunks import build_film_trunk


class FilmTokens(nn.Module):
    """What RT-1 makes of an image.

    Args:
        trunk: Name in `vla_ros.registry.FILM_TRUNKS`.
        image_size: (height, width) in pixels.
        condition_dim: E; 0 for no condition.
        width: D.
        grid: Pool the trunk's maps to so many places along each axis; None leaves them.
        n_tokens: K; 0 keeps one token per place.
        hidden_dim, weights: Of the `TokenLearner`.

    Attributes:
        n_tokens: Tokens per image.
    """

    def __init__(
        self,
        trunk: str,
        image_size: tuple[int, int],
        condition_dim: int,
        width: int,
        *,
        grid: int | None,
        n_tokens: int,
        hidden_dim: int,
        weights: TokenWeights,
    ) -> None:
        super().__init__()
        self.trunk = build_film_trunk(trunk, image_size, condition_dim)
        channels, height, width_px = self.trunk.map_shape
        self.pool = nn.AdaptiveAvgPool2d(grid) if grid is not None else nn.Identity()
        self.projector = nn.Conv2d(channels, width, 1)
        self.learner = TokenLearner(width, n_tokens, hidden_dim, weights) if n_tokens else None
        self.n_places = grid * grid if grid is not None else height * width_px
        self.n_tokens = n_tokens or self.n_places

    def places(self, images_N3hw: Tensor, condition_NE: Tensor | None) -> Tensor:
        """Return one token per place, float [N, P, D]."""
        maps_NDhw: Tensor = self.projector(self.pool(self.trunk(images_N3hw, condition_NE)))
        return maps_NDhw.flatten(2).transpose(1, 2)

    def forward(self, images_N3hw: Tensor, condition_NE: Tensor | None) -> Tensor:
        """Return tokens, float [N, K, D]."""
        places_NPD = self.places(images_N3hw, condition_NE)
        return places_NPD if self.learner is None else self.learner(places_NPD)
