"""Where networks find the check of what another package's factory builds; it belongs to the registry."""

from vla_ros.registry import check_built

__all__ = ["check_built"]
