"""What must hold of an input's form beyond the declaration of each field."""

from vla_ros.contract.schema import DepthRange, TransformSpec
from vla_ros.contract.schema.file_forms import InputFile
from vla_ros.contract.types import INPUT_TYPES
from vla_ros.schema import Section

NUMERIC = ("window", "joints", "fields", "array", "transform")
"""Forms of numbers, which can be interpolated and have names."""


def check_form(at: Section, spec: InputFile) -> None:
    """Refuse what no message can be read as.

    Raises:
        UserError: A selection is empty or names something twice, a crop or range is none, a depth image is not called
            so or latched, or the two frames of a transform are one.
    """
    form = INPUT_TYPES[spec.type].form
    chosen_by, names = ("joints", spec.joints) if form == "joints" else ("names", spec.names)
    if form in NUMERIC and not names:
        raise at.fail("fields" if form in ("fields", "window", "transform") else chosen_by, "must not be empty")
    if len(set(names)) != len(names):
        raise at.fail(chosen_by, f"repeats a name: {', '.join(names)}")
    crop = spec.image.crop if spec.image is not None else None
    if crop is not None and (min(crop[:2]) < 0 or min(crop[2:]) < 1):
        raise at.fail("image.crop", f"is (top, left, height, width) in pixels of the incoming image, got {list(crop)}")
    points = spec.points
    if points is not None and (not points.fields or len(set(points.fields)) != len(points.fields)):
        raise at.fail("points.fields", f"must name one field or more, each once, got {list(points.fields)}")
    if spec.image is not None and spec.image.depth is not None:
        _check_depth(at, spec, spec.image.depth)
    if spec.transform is not None:
        _check_transform(at, spec.transform)


def _check_depth(at: Section, spec: InputFile, depth: DepthRange) -> None:
    if spec.is_latched:
        raise at.fail("alignment.method", "'latch' is for goals: text, images of colours and vectors, not for depth")
    if depth.max <= depth.min:
        raise at.fail("image.depth.max", f"must be above min {depth.min:g}, got {depth.max:g}")
    if not spec.key.endswith("_depth"):
        raise at.fail(
            "image.depth",
            f"is of '{spec.key}', but the key of a depth image ends in _depth, as observation.images.front_depth",
        )


def _check_transform(at: Section, transform: TransformSpec) -> None:
    for field, frame in (("parent", transform.parent), ("child", transform.child)):
        if frame.startswith("/"):
            raise at.fail(f"transform.{field}", f"'{frame}' must have no leading '/': frames of tf2 have none")
    if transform.parent == transform.child:
        raise at.fail("transform.child", f"'{transform.child}' is the parent too; name two frames")
