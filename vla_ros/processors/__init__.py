"""Between what a robot measures and its policy's tensors: a list of steps, and the way back. No files, no architecture.

A step is fitted on what the steps before it make of the training data. The steps of a checkpoint are those that it was
trained with: their state is saved with the weights. Own steps are subclasses of `ProcessorStep` in the registry.
"""

from vla_ros.processors.affine import Affine, affine_from_statistics
from vla_ros.processors.chain import STANDARD, build_steps
from vla_ros.processors.fitting import FitData, Statistics, Windows
from vla_ros.processors.options import Mode, ProcessorOptions
from vla_ros.processors.processors import Processors
from vla_ros.processors.slots import ABSENT, ACTION_DIM_IS_PAD, Slots
from vla_ros.processors.step import Features, ProcessorStep, StepChoice
from vla_ros.processors.text import TextProcessor
from vla_ros.processors.text_models import TextModel
from vla_ros.processors.text_spec import CHARACTERS, TextSpec, form_of

__all__ = [
    "ABSENT",
    "ACTION_DIM_IS_PAD",
    "CHARACTERS",
    "STANDARD",
    "Affine",
    "Features",
    "FitData",
    "Mode",
    "ProcessorOptions",
    "ProcessorStep",
    "Processors",
    "Slots",
    "Statistics",
    "StepChoice",
    "TextModel",
    "TextProcessor",
    "TextSpec",
    "Windows",
    "affine_from_statistics",
    "build_steps",
    "form_of",
]
