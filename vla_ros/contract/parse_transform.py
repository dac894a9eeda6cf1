"""``transform`` of an input: which frame in which."""

from vla_ros.contract.parse_parts import text
from vla_ros.contract.reader import Section
from vla_ros.contract.schema import TransformSpec


def parse_transform(at: Section) -> TransformSpec:
    """Read the section.

    Raises:
        UserError: A field is wrong, or both frames are one.
    """
    spec = TransformSpec(text(at, "parent"), text(at, "child"), at.scalar("static_topic", str, "/tf_static"))
    at.finish()
    for field, frame in (("parent", spec.parent), ("child", spec.child)):
        if frame.startswith("/"):
            raise at.fail(field, f"'{frame}' must have no leading '/': frames of tf2 have none")
    if spec.parent == spec.child:
        raise at.fail("child", f"'{spec.child}' is the parent too; name two frames")
    return spec
