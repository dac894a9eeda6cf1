"""Options of ACT, checked when built."""

from dataclasses import dataclass

from vla_ros.data_types import ConfigError
from vla_ros.policies.action_objective import ActionObjective, ActionObjectiveConfig
from vla_ros.policies.camera_encoders import check_sees_images_and_vectors, check_shared_size
from vla_ros.registry import EncoderName, HeadName, ObjectiveName, PoolingName

WALKTHROUGH_HEAD = (2048, 1024)


@dataclass(frozen=True, kw_only=True)
class ActConfig(ActionObjectiveConfig):
    """Options of `ActPolicy`. ``action_horizon`` is the chunk's size.

    `ActionObjectiveConfig` has those of the motion and the bins. Where an option may be None, None takes what
    the variant has: the walkthrough's, or with `cvae` the published one's.

    Attributes:
        cvae: The published ACT: a latent variable in training, image maps as tokens, one frame. Otherwise the
            walkthrough's: a token per frame.
        backbone: Name in `vla_ros.registry.ENCODERS`; the published one is ``resnet18_frozen_norm``.
        backbone_weights: File of pretrained weights, read before training; None starts from nothing.
        pooling: Of the walkthrough's variant: ``average``, or the positions of ``spatial_softmax`` keypoints.
        share_encoder: One backbone for all cameras instead of one each; they must then have one image size.
        width: D, of every token.
        n_heads: Attention heads.
        mlp_dim: Hidden width of the feed-forwards; the published one has 3200.
        n_encoder_layers: Over the observation; with `cvae` also over the actions.
        n_decoder_layers: Over the queries, all used; the published one has 7.
        dropout: In transformer and head, in [0, 1).
        head: Name in `vla_ros.registry.HEADS` of what makes an action of a query's output.
        head_dims: Widths of the head's hidden layers; None: 2048 and 1024, with `cvae` none.
        tanh: Bound predictions to (−1, 1); the actions must then be normalised to that range. None: unless `cvae`.
        objective: Error of the regression, or ``cross_entropy`` over bins, for which `tanh` means nothing; None:
            ``smooth_l1``, with `cvae` ``l1``.
        magnitude_weighting: Multiply each step's loss by 1 + 2‖a‖ of its target. None: unless `cvae`.
        latent_dim: Z, of the CVAE.
        kl_weight: Of the CVAE's divergence, beside the error of the actions.
    """

    cvae: bool = False
    backbone: EncoderName = "cnn"
    backbone_weights: str | None = None
    pooling: PoolingName = "average"
    share_encoder: bool = False
    width: int = 512
    n_heads: int = 8
    mlp_dim: int = 2048
    n_encoder_layers: int = 4
    n_decoder_layers: int = 4
    dropout: float = 0.1
    head: HeadName = "mlp"
    head_dims: tuple[int, ...] | None = None
    tanh: bool | None = None
    objective: ObjectiveName | None = None
    magnitude_weighting: bool | None = None
    latent_dim: int = 32
    kl_weight: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sees_images_and_vectors(self, "act")
        check_shared_size(self, self.share_encoder)
        for name in ("width", "n_heads", "mlp_dim", "n_encoder_layers", "n_decoder_layers", "latent_dim"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least 1.")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout={self.dropout:g} must be at least 0 and below 1.")
        if self.kl_weight < 0.0:
            raise ConfigError(f"kl_weight={self.kl_weight:g} must be at least 0.")
        if any(width < 1 for width in self.head_widths):
            raise ConfigError(f"head_dims={list(self.head_widths)} must all be at least 1.")
        if self.cvae and self.n_obs_steps != 1:
            raise ConfigError(f"cvae sees one frame, but n_obs_steps={self.n_obs_steps}; without cvae it sees more.")
        if self.cvae and self.pooling != "average":
            raise ConfigError(f"cvae takes whole maps as tokens and pools nothing; remove pooling: {self.pooling}.")
        if self.backbone_weights is not None and not self.image_keys:
            raise ConfigError(f"backbone_weights '{self.backbone_weights}' are given, but no input is an image.")
        _ = self.action_objective  # checks itself when built

    @property
    def bounded_actions(self) -> bool:
        """Whether predictions lie in (−1, 1)."""
        return self.action_objective.bounded

    @property
    def loss_summary(self) -> str:
        """The objective, with a CVAE also its divergence."""
        divergence = f" + {self.kl_weight:g} × KL divergence of the latent" if self.cvae else ""
        return f"{self.action_objective.summary}{divergence}"

    @property
    def head_widths(self) -> tuple[int, ...]:
        """Widths of the head's hidden layers, as the variant has them."""
        if self.head_dims is not None:
            return self.head_dims
        return () if self.cvae else WALKTHROUGH_HEAD

    @property
    def action_objective(self) -> ActionObjective:
        """How raw numbers become actions and a loss."""
        return ActionObjective(
            self,
            self.objective or ("l1" if self.cvae else "smooth_l1"),
            tanh=not self.cvae if self.tanh is None else self.tanh,
            magnitude_weighting=not self.cvae if self.magnitude_weighting is None else self.magnitude_weighting,
        )
