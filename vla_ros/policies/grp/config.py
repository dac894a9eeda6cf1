"""Options of GRP, checked when built."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from vla_ros.data_types import ConfigError
from vla_ros.policies.action_objective import ActionObjective, ActionObjectiveConfig
from vla_ros.policies.camera_encoders import check_sees_images_and_vectors
from vla_ros.policies.goal_camera import GoalCameraConfig
from vla_ros.policies.multimodal import GOAL_KEY
from vla_ros.processors import TextSpec
from vla_ros.registry import ObjectiveName


@dataclass(frozen=True, kw_only=True)
class GrpConfig(ActionObjectiveConfig, GoalCameraConfig):
    """Options of `GrpPolicy`; the defaults are the smallest published size.

    `ActionObjectiveConfig` has those of the motion and the bins, `GoalCameraConfig` of the goal.

    What is an input decides what there is a token of: every image but ``goal.image`` is a camera, ``goal.image`` the
    goal's picture, and vectors together are one token of proprioception (the published GRP has none).

    Attributes:
        n_obs_steps: Frames that become tokens (the guide's obs_stacking).
        action_horizon: Steps predicted (its action stacking).
        text: The instruction, or None when the policy reads none: characters or tokens, which get a learned embedding,
            or the vectors of an encoder, which are projected when their width is not `width`.
        width: D, of the tokens.
        depth: Blocks.
        n_heads: Attention heads.
        mlp_ratio: Hidden width of the blocks' feed-forward, as a multiple of D.
        dropout: In the blocks.
        stem: How images become tokens. ``patches``: each patch of pixels through one linear map, shared by all
            cameras and the goal. ``keypoints``: where a small CNN's features are, in few tokens per frame; learns to
            localise small things from few pictures.
        patch_size: Pixels, of ``patches``.
        stem_tokens: Tokens per frame, of ``keypoints``.
        goal_dropout: Share of training samples that see only one of the two goals, words or picture; which one is
            tossed. Both then serve alone on the robot.
        objective: Error of the regression, or ``cross_entropy`` over bins of each action number.
        tanh: Bound a regression's predictions to (−1, 1); the actions must then be normalised to that range.
        magnitude_weighting: Multiply each step's loss by 1 + 2‖a‖ of its (normalised) target.
    """

    text_kinds: ClassVar[tuple[str, ...]] = ("characters", "tokenizer", "encoder")
    takes_goal_image: ClassVar[bool] = True

    n_obs_steps: int = 2
    text: TextSpec | None = field(default_factory=TextSpec)
    width: int = 128
    depth: int = 4
    n_heads: int = 8
    mlp_ratio: int = 4
    dropout: float = 0.1
    stem: Literal["patches", "keypoints"] = "patches"
    patch_size: int = 8
    stem_tokens: int = 4
    goal_dropout: float = 0.5
    objective: ObjectiveName = "mse"
    tanh: bool = False
    magnitude_weighting: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sees_images_and_vectors(self, "grp")
        if not self.camera_keys:
            raise ConfigError(f"inputs: no camera among {', '.join(self.inputs)}; grp needs at least one.")
        minima = {"width": 1, "depth": 1, "n_heads": 1, "mlp_ratio": 1, "patch_size": 1, "stem_tokens": 1}
        for name, minimum in minima.items():
            if getattr(self, name) < minimum:
                raise ConfigError(f"{name}={getattr(self, name)} must be at least {minimum}.")
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"dropout={self.dropout:g} must be at least 0 and below 1.")
        if not 0.0 <= self.goal_dropout <= 1.0:
            raise ConfigError(f"goal_dropout={self.goal_dropout:g} must be between 0 and 1.")
        if self.stem == "keypoints":  # patches are of one size everywhere
            self.check_goal_size()
        _ = self.action_objective  # checks itself when built

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """The goal's picture, where words took its place in training now and then."""
        return (GOAL_KEY,) if self.has_goal and self.text is not None and self.goal_dropout else ()

    @property
    def vector_keys(self) -> tuple[str, ...]:
        """Keys of proprioception, in order."""
        return tuple(key for key, spec in self.inputs.items() if spec.kind == "vector")

    @property
    def loss_summary(self) -> str:
        """The objective."""
        return self.action_objective.summary

    @property
    def bounded_actions(self) -> bool:
        """Whether predictions lie in [−1, 1]."""
        return self.action_objective.bounded

    @property
    def action_objective(self) -> ActionObjective:
        """How raw numbers become actions and a loss."""
        return ActionObjective(self, self.objective, self.tanh, self.magnitude_weighting)
