"""Options of RT-1, checked when built."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.policies.base import PolicyConfig
from vla_ros.policies.camera_encoders import check_sees_images_and_vectors, check_shared_size
from vla_ros.processors import TextSpec
from vla_ros.registry import FilmTrunkName


@dataclass(frozen=True, kw_only=True)
class Rt1Config(PolicyConfig):
    """Options of `Rt1Policy`; the defaults are the published sizes.

    Vectors among the inputs become one token per frame, after those of the cameras; the published RT-1 sees none.

    Attributes:
        n_obs_steps: Frames seen; before the sixth, the first is repeated.
        text: The instruction as one vector, or None: then nothing conditions the images.
        trunk: ``efficientnet_b3``, or ``small_conv``, four convolutions that a CPU trains from scratch.
        trunk_weights: File of torchvision's efficientnet_b3 weights to start from, or None.
        share_encoder: One trunk and token learner for all cameras, or one each.
        grid: Places along each axis to which the trunk's maps are pooled; None leaves them as they are.
        token_dim: D, of tokens and of the conditioning vector.
        tokens_per_image: Learned tokens; 0 keeps every place as a token.
        learner_dim: Hidden width of the token learner.
        learner_weights: How the token learner's scores become weights.
        depth, n_heads, mlp_dim, dropout: Of the causal transformer.
        objective: The only one that fits its output.
        bins: Classes of each action number.
        ranges: Name of an action number → (low, high) of its bins, normalised; [-1, 1] for all others.
        categories: Name of an action number that takes few values (a mode) → those values, normalised.
    """

    text_kinds: ClassVar[tuple[str, ...]] = ("sentence_embedding",)

    n_obs_steps: int = 6
    text: TextSpec | None = field(default_factory=lambda: TextSpec(kind="sentence_embedding"))
    trunk: FilmTrunkName = "efficientnet_b3"
    trunk_weights: str | None = None
    share_encoder: bool = True
    grid: int | None = 9
    token_dim: int = 512
    tokens_per_image: int = 8
    learner_dim: int = 64
    learner_weights: Literal["sigmoid", "softmax"] = "sigmoid"
    depth: int = 8
    n_heads: int = 8
    mlp_dim: int = 1024
    dropout: float = 0.1
    objective: Literal["cross_entropy"] = "cross_entropy"
    bins: int = 256
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    categories: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sees_images_and_vectors(self, "rt1")
        if not self.image_keys:
            raise ConfigError(f"inputs: no camera among {', '.join(self.inputs)}; rt1 needs at least one.")
        check_shared_size(self, self.share_encoder)
        minima = {"grid": 1, "token_dim": 1, "tokens_per_image": 0, "learner_dim": 1, "depth": 1, "n_heads": 1}
        for name, minimum in {**minima, "mlp_dim": 1, "bins": 2}.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"{name}={value} must be at least {minimum}.")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout={self.dropout:g} must be at least 0 and below 1.")
        if self.trunk_weights is not None and self.trunk != "efficientnet_b3":
            raise ConfigError(f"trunk_weights are those of efficientnet_b3, but trunk is '{self.trunk}'.")
        self._check_numbers()

    @property
    def loss_summary(self) -> str:
        """The loss and its classes."""
        return f"{self.objective} over {self.bins} bins"

    @property
    def bounded_actions(self) -> bool:
        """Whether any number has bins over [-1, 1]: those without a range or categories of their own."""
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
