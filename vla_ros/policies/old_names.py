"""What earlier versions called policies and options. Files that say so still load, with a word.

Names of weights: `vla_ros.networks.earlier_weights`.
"""

import logging
from collections.abc import Mapping
from typing import Any

_LOG = logging.getLogger(__name__)

_DEFAULTS_OF_ACT = ("head_dims", "tanh", "objective", "magnitude_weighting")
"""Options of ACT in which null stood for what the variant has."""


def current_policy(name: str, options: Mapping[str, Any], source: str = "") -> tuple[str, dict[str, Any]]:
    """Return the policy and the options that were meant.

    Args:
        name: Of the policy.
        options: Its options, as a file has them.
        source: Where they stand, for the log.
    """
    if name != "act":
        return name, dict(options)
    current = {key: value for key, value in options.items() if value is not None or key not in _DEFAULTS_OF_ACT}
    if current.get("cvae") is not False or {"image_tokens", "positions"} & current.keys():
        return name, current
    _LOG.warning(
        "%spolicy 'act' with cvae: false is called 'act_walkthrough' now, and is taken for it; "
        "the published ACT without its latent also says image_tokens: maps",
        f"{source}: " if source else "",
    )
    del current["cvae"]
    if "latent_dim" in current or "kl_weight" in current:  # they meant nothing there
        current = {key: value for key, value in current.items() if key not in ("latent_dim", "kl_weight")}
    return "act_walkthrough", current
