"""Options of GRP, checked when built."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from vla_ros.data_types import ConfigError
from vla_ros.policies.base import MOST_STEPS
from vla_ros.policies.common.action_objective import REGRESSED, ActionObjective, ActionObjectiveConfig
from vla_ros.policies.common.camera_encoders import check_sees_images_and_vectors
from vla_ros.policies.common.goal_camera import GoalCameraConfig
from vla_ros.policies.common.multimodal import GOAL_KEY
from vla_ros.processors import TextSpec
from vla_ros.registry import ObjectiveName
from vla_ros.schema import About, Only


@dataclass(frozen=True, kw_only=True)
class GrpConfig(ActionObjectiveConfig, GoalCameraConfig):
    """Options of `GrpPolicy`; the defaults are the smallest published size.

    `ActionObjectiveConfig` has those of the motion and the bins, `GoalCameraConfig` of the goal.

    What is an input decides what there is a token of: every image but ``goal.image`` is a camera, ``goal.image`` the
    goal's picture, and vectors together are one token of proprioception (the published GRP has none).
    """

    text_kinds: ClassVar[tuple[str, ...]] = ("characters", "tokenizer", "encoder")
    takes_goal_image: ClassVar[bool] = True

    n_obs_steps: Annotated[
        int, About("Frames that become tokens (the guide's obs_stacking).", at_least=1, at_most=MOST_STEPS)
    ] = 2
    text: Annotated[
        TextSpec | None,
        About(
            "The instruction, or null when the policy reads none: characters or tokens, which get a learned embedding, "
            "or the vectors of an encoder, which are projected when their width is not `width`."
        ),
    ] = field(default_factory=TextSpec)
    width: Annotated[int, About("D, of the tokens.", at_least=1)] = 128
    depth: Annotated[int, About("Blocks.", at_least=1)] = 4
    n_heads: Annotated[int, About("Attention heads.", at_least=1)] = 8
    mlp_ratio: Annotated[int, About("Hidden width of the blocks' feed-forward, as a multiple of D.", at_least=1)] = 4
    dropout: Annotated[float, About("In the blocks.", at_least=0, below=1)] = 0.1
    stem: Annotated[
        Literal["patches", "keypoints"],
        About(
            "How images become tokens. `patches`: each patch of pixels through one linear map, shared by all cameras "
            "and the goal. `keypoints`: where a small CNN's features are, in few tokens per frame; learns to localise "
            "small things from few pictures."
        ),
    ] = "patches"
    patch_size: Annotated[
        int,
        About(
            "Side of a patch.", "pixels", at_least=1, only=Only("with stem 'patches'", lambda c: c.stem == "patches")
        ),
    ] = 8
    stem_tokens: Annotated[
        int,
        About(
            "Tokens per frame.",
            at_least=1,
            only=Only("with stem 'keypoints'", lambda config: config.stem == "keypoints"),
        ),
    ] = 4
    goal_dropout: Annotated[
        float,
        About(
            "Share of training samples that see only one of the two goals, words or picture; which one is tossed. Both "
            "then serve alone on the robot.",
            at_least=0,
            at_most=1,
            only=Only(
                f"with both goals, a text and '{GOAL_KEY}' among the inputs",
                lambda config: config.has_goal and config.text is not None,
            ),
        ),
    ] = 0.5
    objective: Annotated[
        ObjectiveName, About("Error of the regression, or `cross_entropy` over bins of each action number.")
    ] = "mse"
    tanh: Annotated[
        bool,
        About(
            "Bound a regression's predictions to (−1, 1); the actions must then be normalised to that range.",
            only=REGRESSED,
        ),
    ] = False
    magnitude_weighting: Annotated[
        bool, About("Multiply each step's loss by 1 + 2‖a‖ of its target, a physical length.")
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sees_images_and_vectors(self, "grp")
        if not self.camera_keys:
            raise ConfigError(f"inputs: no camera among {', '.join(self.inputs)}; grp needs at least one.")
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
