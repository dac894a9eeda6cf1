"""What to normalise how. Plain values, checked when built; no tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal, get_args

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.schema import About, Checked, Only

Mode = Literal["mean_std", "min_max", "symmetric", "quantile", "identity"]
ImageMode = Literal["imagenet", "mean_std", "min_max", "identity"]

LARGEST_SIDE = 32_768  # pixels
ACTION = "action"
DEFAULT_ACTION: Mode = "min_max"
"""Of actions whose lengths and directions nobody takes."""

_SYMMETRIC = Only(
    "with action 'symmetric'", lambda options: "symmetric" in (options.action, options.keys.get(ACTION, ""))
)


@dataclass(frozen=True, kw_only=True)
class ProcessorOptions(Checked):
    """How each kind of feature is normalised.

    ``mean_std``: zero mean, unit deviation. ``min_max``: the data's range to [−1, 1]. ``symmetric``: divided by the
    largest absolute value, so that 0 stays 0. ``quantile``: the range between its 1 % and 99 % quantiles to [−1, 1],
    beyond which values pass unclipped; where these nearly coincide, the whole range. ``identity``: as it is. Images
    come as bytes and are scaled to [0, 1] first; ``imagenet`` then takes ImageNet's mean and deviation, ``min_max``
    maps [0, 1] to [−1, 1].
    """

    images: Annotated[ImageMode, About("Of every image.")] = "imagenet"
    vectors: Annotated[Mode, About("Of proprioception.")] = "mean_std"
    windows: Annotated[Mode, About("Of IMU windows, per field.")] = "mean_std"
    points: Annotated[Mode, About("Of point clouds, per field; metric radii want them as they are.")] = "identity"
    action: Annotated[
        Mode | None,
        About(
            "Of the action; undone on what the policy predicts. Null: `symmetric` where the policy's loss takes "
            "lengths or directions of the action, `min_max` elsewhere."
        ),
    ] = None
    together: Annotated[
        tuple[str, ...],
        About(
            "Action numbers that share one scale, so that lengths and directions of their vector stay physical. Empty: "
            "those that the policy's loss measures.",
            only=_SYMMETRIC,
        ),
    ] = ()
    keys: Annotated[dict[str, str], About("Exceptions by feature key.")] = field(default_factory=dict)
    image_size: Annotated[
        tuple[int, int] | None,
        About("(height, width) to which images are resized (bilinear, antialiased); null keeps them.", "pixels"),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size is not None and not all(1 <= size <= LARGEST_SIDE for size in self.image_size):
            raise ConfigError(
                f"image_size={list(self.image_size)} must be 1×1 to {LARGEST_SIDE}×{LARGEST_SIDE} pixels."
            )

    def mode(self, spec: FeatureSpec) -> str:
        """Return the mode of one feature.

        Raises:
            ConfigError: An exception names a mode that this kind of feature does not have.
        """
        action = self.action or DEFAULT_ACTION
        by_kind = {"vector": self.vectors, "window": self.windows, "points": self.points, "action": action}
        mode = self.keys.get(spec.key, self.images if spec.kind == "image" else by_kind[spec.kind])
        allowed = get_args(ImageMode if spec.kind == "image" else Mode)
        if mode not in allowed:
            hint = nearest_name(mode, allowed)
            raise ConfigError(f"normalisation of '{spec.key}': '{mode}' is not one of {', '.join(allowed)}.{hint}")
        return mode

    def resized(self, inputs: Mapping[str, FeatureSpec]) -> dict[str, FeatureSpec]:
        """Return inputs as the policy gets them: images at their resized size."""
        size = self.image_size
        return {
            key: replace(spec, shape=(*size, spec.shape[2])) if size is not None and spec.kind == "image" else spec
            for key, spec in inputs.items()
        }

    def indices_together(self, action: FeatureSpec) -> tuple[int, ...]:
        """Return where in the action the numbers of `together` are.

        Raises:
            ConfigError: The action has no such number, or one is named twice.
        """
        for index, name in enumerate(self.together):
            if name not in action.names or name in self.together[:index]:
                fault = "stands there twice" if name in action.names else "is not a number of the action"
                known = ", ".join(action.names)
                raise ConfigError(
                    f"normalisation.together: '{name}' {fault}: {known}.{nearest_name(name, action.names)}"
                )
        return tuple(action.names.index(name) for name in self.together)

    def check_keys(self, keys: set[str]) -> None:
        """Refuse exceptions for features that are not there.

        Raises:
            ConfigError: Names the key and the nearest one.
        """
        for key in self.keys:
            if key not in keys:
                known = sorted(keys)
                hint = nearest_name(key, known)
                raise ConfigError(f"normalisation.keys: this policy has no '{key}': {', '.join(known)}.{hint}")
