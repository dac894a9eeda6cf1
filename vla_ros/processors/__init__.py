"""Between stored features and a policy's tensors: resize, normalise, embed text, and the way back.

No files, no architecture.

The processors of a checkpoint are the ones it was trained with: their state is saved with the weights.
"""

from vla_ros.processors.affine import Affine, affine_from_statistics
from vla_ros.processors.options import Mode, ProcessorOptions
from vla_ros.processors.processors import Processors, Statistics
from vla_ros.processors.slots import ABSENT, ACTION_DIM_IS_PAD, Slots
from vla_ros.processors.text import TextProcessor
from vla_ros.processors.text_models import TextModel
from vla_ros.processors.text_spec import CHARACTERS, TextSpec, form_of

__all__ = [
    "ABSENT",
    "ACTION_DIM_IS_PAD",
    "CHARACTERS",
    "Affine",
    "Mode",
    "ProcessorOptions",
    "Processors",
    "Slots",
    "Statistics",
    "TextModel",
    "TextProcessor",
    "TextSpec",
    "affine_from_statistics",
    "form_of",
]
