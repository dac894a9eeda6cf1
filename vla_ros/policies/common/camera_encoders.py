"""One image encoder for all cameras, or one each: modules by feature key. What they compute is theirs.

Axis legend: B batch, T n_obs_steps, h, w pixels.
"""

from collections.abc import Callable, Iterator

from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.policies.base import PolicyConfig

SHARED = "shared"


class CameraEncoders(nn.ModuleDict):
    """The encoders of a policy's cameras.

    Args:
        config: Names the cameras.
        share: One encoder for all.
        build: Makes one for images of (height, width) pixels.
    """

    def __init__(self, config: PolicyConfig, share: bool, build: Callable[[tuple[int, int]], nn.Module]) -> None:
        super().__init__()
        self._share = share
        for key in config.image_keys:
            if self._name(key) not in self:
                height, width, _ = config.inputs[key].shape
                self[self._name(key)] = build((height, width))

    def of(self, key: str) -> nn.Module:
        """Return the encoder of a camera."""
        return self[self._name(key)]

    def encode(self, key: str, images_BT3hw: Tensor) -> Tensor:
        """Return what a camera's encoder makes of every frame, [B, T, ...]."""
        encoded: Tensor = self.of(key)(images_BT3hw.flatten(0, 1))
        return encoded.view(*images_BT3hw.shape[:2], *encoded.shape[1:])

    def each(self) -> Iterator[nn.Module]:
        """Iterate over the encoders, a shared one once."""
        return iter(self.values())

    def _name(self, key: str) -> str:
        # a module's name may not hold dots, and a feature key holds no slash: two keys never share a name
        return SHARED if self._share else key.replace(".", "/")


def check_shared_size(config: PolicyConfig, share: bool) -> None:
    """Refuse one encoder for cameras of different image sizes.

    Raises:
        ConfigError: Names the sizes.
    """
    sizes = {config.inputs[key].shape for key in config.image_keys}
    if share and len(sizes) > 1:
        raise ConfigError(f"share_encoder needs cameras of one image size, got {sorted(sizes)}.")


def check_sees_images_and_vectors(config: PolicyConfig, name: str) -> None:
    """Refuse inputs of other kinds.

    Raises:
        ConfigError: Names the key and its kind.
    """
    for key, spec in config.inputs.items():
        if spec.kind not in ("image", "vector"):
            raise ConfigError(f"inputs: '{key}' holds {spec.kind}; {name} sees images and vectors only.")
