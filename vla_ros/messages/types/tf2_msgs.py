"""tf2_msgs: the transform between two frames, composed along the tree of /tf and /tf_static."""

from typing import Any

from vla_ros.contract import InputSpec
from vla_ros.contract.types import AsInput, MessageType
from vla_ros.data_types import Array, DecodeError
from vla_ros.messages import samples
from vla_ros.messages.forms.fields import xyz, xyzw
from vla_ros.messages.forms.transforms import TF_MESSAGE, transforms_of
from vla_ros.messages.forms.vectors import as_finite_float32
from vla_ros.messages.samples import Rng

FIELDS = xyz("translation") + xyzw("rotation")


def _transform(spec: InputSpec, message: Any, place: str) -> Array:
    """Return the transform that one message holds; streams compose it of many."""
    if spec.transform is None:
        raise ValueError(f"{spec.key}: a {spec.type} needs its transform; contracts from `parse_contract` have it")
    for item in transforms_of(message, place):
        if (item.parent, item.child) == (spec.transform.parent, spec.transform.child):
            value = item.value[[FIELDS.index(field) for field in spec.fields]]
            return as_finite_float32(value, spec.names, place)
    raise DecodeError(f"{place}: the message holds no transform of {spec.transform.child} in {spec.transform.parent}")


def _sample(spec: InputSpec, stamp_ns: int, rng: Rng) -> Any:
    form = spec.transform
    parent, child = ("base_link", "tool0") if form is None else (form.parent, form.child)
    transform = samples.new("geometry_msgs/msg/Transform", samples.vector3(rng), samples.quaternion(rng))
    stamped = samples.new("geometry_msgs/msg/TransformStamped", samples.header(stamp_ns, parent), child, transform)
    return samples.new(spec.type, [stamped])


ROWS = (
    MessageType(
        TF_MESSAGE,
        "Where a frame is in another at the tick, composed along the tree of `/tf` and `/tf_static`, m and quaternion.",
        has_header=False,
        as_input=AsInput("transform", _transform, _sample, FIELDS, FIELDS),
    ),
)
