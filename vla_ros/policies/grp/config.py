"""Options of GRP, checked when built."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from vla_ros.policies.base import MOST_STEPS
from vla_ros.policies.common.action_objective import ActionObjectiveConfig
from vla_ros.policies.common.multimodal import GOAL_KEY, GoalCameraConfig
from vla_ros.policies.common.observation_tokens import TokensConfig
from vla_ros.processors import TextSpec
from vla_ros.schema import About, Only


@dataclass(frozen=True, kw_only=True)
class GrpConfig(ActionObjectiveConfig, GoalCameraConfig, TokensConfig):
    """Options of `GrpPolicy`; the defaults are the smallest published size.

    `ActionObjectiveConfig` has those of the objective, `GoalCameraConfig` of the goal, `TokensConfig` of further
    sensors and memory.

    What is an input decides what there is a token of: every image but ``goal.image`` is a camera, ``goal.image`` the
    goal's picture, and vectors together are one token of proprioception (the published GRP has none).
    """

    architecture: ClassVar[str] = "grp"
    input_kinds: ClassVar[tuple[str, ...] | None] = ("image", "vector")
    needs_camera: ClassVar[bool] = True
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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stem == "keypoints":  # patches are of one size everywhere
            self.check_goal_size()

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """The goal's picture, where words took its place in training now and then."""
        return (
            *super().optional_inputs,
            *((GOAL_KEY,) if self.has_goal and self.text is not None and self.goal_dropout else ()),
        )
