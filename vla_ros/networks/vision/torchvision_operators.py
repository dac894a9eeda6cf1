"""Where networks find the workaround for torchvision's import; it lives in the lowest layer that needs it."""

from vla_ros.processors.torchvision_operators import declare_torchvision_operators

__all__ = ["declare_torchvision_operators"]
