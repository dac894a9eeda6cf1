"""Feature-wise linear modulation: a vector scales and shifts feature maps. Neither language nor images are known here.

Axis legend: N images, C channels, h, w pixels, E numbers of the conditioning vector.
"""

from torch import Tensor, nn


class Film(nn.Module):
    """``(1 + gamma) * x + beta`` with gamma and beta linear in a vector, and zero at first: the identity.

    A pretrained network with these between its layers computes at first what it computed without them.

    Args:
        condition_dim: E.
        channels: C.
    """

    def __init__(self, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(condition_dim, 2 * channels)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, maps_NChw: Tensor, condition_NE: Tensor) -> Tensor:
        """Return modulated maps, [N, C, h, w]."""
        gamma_NC11, beta_NC11 = self.linear(condition_NE)[..., None, None].chunk(2, dim=1)
        modulated_NChw: Tensor = (1.0 + gamma_NC11) * maps_NChw + beta_NC11
        return modulated_NChw
