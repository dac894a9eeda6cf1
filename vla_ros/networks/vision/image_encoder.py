"""Backbone and pooling as one part: normalised image → feature vector. Cameras and history are the policy's matter."""

from torch import Tensor, nn

from vla_ros.networks.vision.backbones import build_backbone
from vla_ros.networks.vision.pooling import build_pooling


class ImageEncoder(nn.Module):
    """Encodes images of one size.

    Args:
        backbone: Name in the backbone registry.
        pooling: Name of the pooling.
        image_size: (height, width) in pixels.

    Attributes:
        feature_dim: Numbers per image.
    """

    def __init__(self, backbone: str, pooling: str, image_size: tuple[int, int]) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone, image_size)
        self.pooling = build_pooling(pooling, self.backbone.map_shape)
        self.feature_dim: int = self.pooling.feature_dim

    def forward(self, images_N3hw: Tensor) -> Tensor:
        """Return features, float [N, feature_dim]."""
        features_NF: Tensor = self.pooling(self.backbone(images_N3hw))
        return features_NF
