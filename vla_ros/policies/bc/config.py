"""Options of the behaviour-cloning policy, checked when built."""

from dataclasses import dataclass

from vla_ros.data_types import ConfigError
from vla_ros.policies.action_objective import ActionObjective, ActionObjectiveConfig
from vla_ros.policies.camera_encoders import check_sees_images_and_vectors, check_shared_size
from vla_ros.registry import EncoderName, HeadName, ObjectiveName, PoolingName


@dataclass(frozen=True, kw_only=True)
class BcConfig(ActionObjectiveConfig):
    """Options of `BcPolicy`; the defaults are the published BC-CNN.

    `ActionObjectiveConfig` has those of the motion and the bins.

    Attributes:
        backbone: Name in `vla_ros.registry.ENCODERS`.
        backbone_weights: File of pretrained weights, read before training: safetensors or a torch state dict, of the
            backbone or of torchvision's model of that name. None starts from nothing.
        pooling: Name in `vla_ros.registry.POOLINGS`: ``average`` of each feature map, or the positions of
            ``spatial_softmax`` keypoints.
        share_encoder: One encoder for all cameras instead of one each; they must then have one image size.
        gru_hidden_dim: Width of the recurrent memory between features and head; 0 for none. The memory then sees the
            frames one after the other, and the episode's earlier ones through the policy state. Training predicts from
            every one of the `n_obs_steps` frames.
        head: Name in `vla_ros.registry.HEADS` of what makes actions of the features.
        hidden_dims: Widths of the head's hidden layers.
        dropout: In the head only, in [0, 1): no backbone has any.
        tanh: Bound predictions to (−1, 1); the actions must then be normalised to that range.
        objective: Error of the regression, or ``cross_entropy`` over bins, for which `tanh` means nothing.
        magnitude_weighting: Multiply each step's loss by 1 + 2‖a‖ of its (normalised) target.
    """

    backbone: EncoderName = "cnn"
    backbone_weights: str | None = None
    pooling: PoolingName = "average"
    share_encoder: bool = False
    gru_hidden_dim: int = 0
    head: HeadName = "mlp"
    hidden_dims: tuple[int, ...] = (512, 512)
    dropout: float = 0.3
    tanh: bool = True
    objective: ObjectiveName = "smooth_l1"
    magnitude_weighting: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sees_images_and_vectors(self, "bc")
        check_shared_size(self, self.share_encoder)
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout={self.dropout:g} must be at least 0 and below 1.")
        if any(width < 1 for width in self.hidden_dims):
            raise ConfigError(f"hidden_dims={list(self.hidden_dims)} must all be at least 1.")
        if self.gru_hidden_dim < 0:
            raise ConfigError(f"gru_hidden_dim={self.gru_hidden_dim} must be at least 0.")
        if self.backbone_weights is not None and not self.image_keys:
            raise ConfigError(f"backbone_weights '{self.backbone_weights}' are given, but no input is an image.")
        _ = self.action_objective  # checks itself when built

    @property
    def needs_past_action(self) -> bool:
        """Whether every frame is trained on: those of a memory are."""
        return self.gru_hidden_dim > 0 and self.n_obs_steps > 1

    @property
    def bounded_actions(self) -> bool:
        """Whether predictions lie in (−1, 1)."""
        return self.action_objective.bounded

    @property
    def loss_summary(self) -> str:
        """The objective."""
        return self.action_objective.summary

    @property
    def action_objective(self) -> ActionObjective:
        """How raw numbers become actions and a loss."""
        return ActionObjective(self, self.objective, self.tanh, self.magnitude_weighting)
