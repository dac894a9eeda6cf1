"""Which part of a model each weight belongs to: what a recipe gives learning rates to. No optimiser.

The parts are the field's: ``vision`` (what encodes images), ``language`` (embeddings of text and the language model),
``expert`` (the transformer or memory that makes actions of both), and ``heads``: everything else.
"""

from typing import Literal, cast, get_args

from torch import nn

from vla_ros.data_types import ConfigError

Part = Literal["vision", "language", "expert", "heads"]
PARTS: tuple[str, ...] = get_args(Part)

_OF_CHILD: dict[str, Part] = {
    "encoders": "vision",
    "images": "vision",
    "stem": "vision",
    "cameras": "vision",
    "vision": "vision",
    "vision_encoder": "vision",
    "vision_tower": "vision",
    "text": "language",
    "language": "language",
    "language_model": "language",
    "llm": "language",
    "prefix_expert": "language",
    "action_expert": "expert",
    "encoder": "expert",
    "decoder": "expert",
    "blocks": "expert",
    "transformer": "expert",
    "memory": "expert",
    "expert": "expert",
}
"""Names that models of this package use for their parts; a model may have others, and say so."""


def parameter_parts(module: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return part → its trainable weights, in the order of the module's own; parts without any are left out.

    The outermost module whose name is known decides. A module may say what its children are in a class attribute
    ``part_of_child``, name → part.

    Raises:
        ConfigError: It names a part that there is not.
    """
    own: dict[str, Part] = getattr(module, "part_of_child", {})
    known = {**_OF_CHILD, **own}
    result: dict[str, list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        part = next((known[place] for place in name.split(".") if place in known), "heads")
        if part not in PARTS:
            raise ConfigError(f"{type(module).__name__}.part_of_child: '{part}' is none of {', '.join(PARTS)}.")
        if parameter.requires_grad:
            result.setdefault(part, []).append(parameter)
    return {part: result[part] for part in cast("tuple[Part, ...]", PARTS) if part in result}
