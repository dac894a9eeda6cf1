"""What must hold of an input's form beyond the declaration of each field."""

from vla_ros.contract.schema import CameraInfoSpec, TransformSpec
from vla_ros.contract.schema.file_forms import IMAGE_TYPES, ImageFile, InputFile
from vla_ros.contract.types import INPUT_TYPES
from vla_ros.schema import Section

NUMERIC = ("window", "joints", "fields", "array", "transform")
"""Forms of numbers, which can be interpolated and have names."""

RAW_IMAGE = IMAGE_TYPES[0]


def check_form(at: Section, spec: InputFile) -> None:
    """Refuse what no message can be read as.

    Raises:
        UserError: A selection is empty or names something twice, a crop, range or calibration is none, an image of
            distances or numbers is latched, or the two frames of a transform are one.
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
    if spec.image is not None:
        _check_image(at, spec, spec.image)
    if spec.transform is not None:
        _check_transform(at, spec.transform)


def _check_image(at: Section, spec: InputFile, image: ImageFile) -> None:
    if image.depth is not None and image.map is not None:
        raise at.fail("image.map", "and image.depth exclude each other; an image is of distances or of other numbers")
    for field, form in (("depth", image.depth), ("map", image.map)):
        if form is not None and spec.is_latched:
            raise at.fail(
                "alignment.method", f"'latch' is for goals: text, images of colours and vectors, not for image.{field}"
            )
        if form is not None and form.max <= form.min:
            raise at.fail(f"image.{field}.max", f"must be above min {form.min:g}, got {form.max:g}")
    if image.map is not None and spec.type != RAW_IMAGE:
        raise at.fail("image.map", f"is read of a {RAW_IMAGE}; a {spec.type} holds colours or distances")
    if image.info is not None:
        _check_info(at, image.info)


def _check_info(at: Section, info: CameraInfoSpec) -> None:
    """Refuse a calibration that is incomplete, or said twice."""
    numbers = [name for name in ("height", "width", "d", "k", "r", "p") if getattr(info, name)]
    if info.topic and numbers:
        raise at.fail("image.info.topic", f"and {', '.join(numbers)} say the same; give the topic, or the numbers")
    if info.topic:
        return
    if not info.k:
        raise at.fail("image.info", "needs a topic of CameraInfo, or height, width and k")
    for name, length in (("k", 9), ("r", 9), ("p", 12)):
        found = len(getattr(info, name))
        if found not in ((length,) if name == "k" else (0, length)):
            raise at.fail(f"image.info.{name}", f"expected {length} entries, got {found}")
    for name in ("height", "width"):
        if getattr(info, name) < 1:
            raise at.fail(f"image.info.{name}", "is required and missing: k holds for images of one size")
    if min(info.k[0], info.k[4]) <= 0:
        raise at.fail("image.info.k", f"holds focal lengths {info.k[0]:g} and {info.k[4]:g}; both are above 0")


def _check_transform(at: Section, transform: TransformSpec) -> None:
    for field, frame in (("parent", transform.parent), ("child", transform.child)):
        if frame.startswith("/"):
            raise at.fail(f"transform.{field}", f"'{frame}' must have no leading '/': frames of tf2 have none")
    if transform.parent == transform.child:
        raise at.fail("transform.child", f"'{transform.child}' is the parent too; name two frames")
