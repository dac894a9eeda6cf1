"""Lets torchvision be imported where its compiled operators cannot load. Call before importing it or transformers.

PyPI's torchvision wheels are built against CUDA builds of torch. Beside a CPU build their library does not load, and
the import then fails on the schemas of two operators that only detection models use. Declaring those schemas is enough
for models and transforms; calling the operators still fails, as it should.
"""

from importlib import import_module
from importlib.util import find_spec

import torch

SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


def declare_torchvision_operators() -> None:
    """Declare the operators that torchvision's import needs, where torchvision cannot; otherwise do nothing."""
    if find_spec("torchvision") is None or _library_loads():
        return
    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", SCHEMA)


def _library_loads() -> bool:
    try:
        import_module("torchvision")
    except (ImportError, RuntimeError, AttributeError):
        return False
    return True
