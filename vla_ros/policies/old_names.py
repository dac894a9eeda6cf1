"""What earlier versions called things: policies, options and weights. Files that say so still load, with a word.

Pure renaming: nothing here builds a network or reads a file.
"""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any

_LOG = logging.getLogger(__name__)

_OF_ATTENTION = "query|key|value|output"
_GEMMA = ((rf"((?:prefix|action)_expert\.layers\.\d+)\.({_OF_ATTENTION})\.", r"\1.attention.\2."),)
_WEIGHTS: dict[str, tuple[tuple[str, str], ...]] = {
    "pi0": _GEMMA,
    "flow_ar": _GEMMA,
    "grp": (
        (rf"(blocks\.\d+)\.({_OF_ATTENTION})\.", r"\1.attention.\2."),
        (r"(blocks\.\d+\.mlp)\.0\.", r"\1.inner."),
        (r"(blocks\.\d+\.mlp)\.2\.", r"\1.outer."),
    ),
    "rt1": (
        (r"(transformer\.layers\.\d+)\.self_attn\.in_proj_", r"\1.attention.joined."),
        (r"(transformer\.layers\.\d+)\.self_attn\.out_proj\.", r"\1.attention.output."),
        (r"(transformer\.layers\.\d+)\.linear1\.", r"\1.mlp.inner."),
        (r"(transformer\.layers\.\d+)\.linear2\.", r"\1.mlp.outer."),
        (r"(transformer\.layers\.\d+)\.norm1\.", r"\1.attention_norm."),
        (r"(transformer\.layers\.\d+)\.norm2\.", r"\1.mlp_norm."),
    ),
}
"""Policy → (what a weight's name began with or held, what it is now)."""

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


def current_weights(policy: str, names: Iterable[str], source: str = "") -> dict[str, str]:
    """Return the name that each weight of a file has now.

    Args:
        policy: Which architecture's.
        names: As the file has them.
        source: The file, for the log.
    """
    renamed = {}
    for name in names:
        renamed[name] = name
        for pattern, replacement in _WEIGHTS.get(policy, ()):
            renamed[name] = re.sub(f"^{pattern}", replacement, renamed[name])
    changed = sum(old != new for old, new in renamed.items())
    if changed:
        _LOG.warning(
            "%s: %d weights have names of an earlier version, and are taken for what they are now", source, changed
        )
    return renamed
