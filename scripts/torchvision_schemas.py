"""Lets torchvision be imported beside a torch that its compiled operators do not fit. A part of the environment.

The torchvision wheels of the package index are built against CUDA builds of torch. Beside a CPU build their library
does not load, and the import of torchvision then fails on the schemas of two operators that only detection models use.
Declaring these schemas is enough for models and transforms; calling the operators still fails, as it should.

`setup_environment.py` copies this file into the environment with a ``.pth`` file that imports it, so that it runs when
Python starts. It costs nothing until torchvision is imported, and does nothing where torchvision's library loads.
"""

import sys
from collections.abc import Sequence
from types import ModuleType

FIRST_USE = "torchvision._meta_registrations"
"""The module that needs the schemas; torchvision imports it right after it has tried to load its library."""
SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
OPERATORS = ("nms", "qnms")


class SchemasBeforeFirstUse:
    """A finder that finds nothing, and declares the missing schemas when `FIRST_USE` is looked for."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> None:  # noqa: ARG004
        """Return nothing: the finders after this one find the module."""
        if name == FIRST_USE:
            declare_missing_schemas()


def declare_missing_schemas() -> None:
    """Declare the schemas of torchvision's operators that torch does not know."""
    import torch  # this module is imported at every start of Python

    for name in OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", SCHEMA)


if not any(isinstance(finder, SchemasBeforeFirstUse) for finder in sys.meta_path):
    sys.meta_path.insert(0, SchemasBeforeFirstUse())
