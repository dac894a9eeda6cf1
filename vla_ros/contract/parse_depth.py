"""``image.depth`` of an input: the image is one of distances."""

from vla_ros.contract.reader import Section
from vla_ros.contract.schema import DepthSpec, ImageSpec


def parse_depth(image: Section, form: ImageSpec, key: str) -> DepthSpec | None:
    """Read the section; None where the image is one of colours.

    Args:
        image: The section ``image``.
        form: What else it says.
        key: Feature key.

    Raises:
        UserError: A field is wrong, or the key does not say that the feature is depth.
    """
    if "depth" not in image:
        image.raw("depth", None)
        return None
    at = image.section("depth")
    spec = DepthSpec(
        height=form.height,
        width=form.width,
        crop=form.crop,
        min=at.scalar("min", float, minimum=0.0),
        max=at.scalar("max", float, minimum=0.0, exclusive=True),
        unit=at.scalar("unit", float, 0.001, minimum=0.0, exclusive=True),
    )
    at.finish()
    if spec.max <= spec.min:
        raise at.fail("max", f"must be above min {spec.min:g}, got {spec.max:g}")
    if not key.endswith("_depth"):
        raise at.fail(
            "", f"is of '{key}', but the key of a depth image ends in _depth, as observation.images.front_depth"
        )
    return spec
