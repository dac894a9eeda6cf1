"""What policies over images, text, a goal image and proprioception share: options, and reading an observation.

No architecture and no weights; feature keys end here and become lists of tensors.

Axis legend: B batch, T n_obs_steps, I images per sample, L text tokens, S state_dim, h, w pixels.
"""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from vla_ros.contract import GOAL_IMAGE
from vla_ros.data_types import ConfigError, ObservationError, nearest_name
from vla_ros.networks import AttentionOptions, ExpertOptions, VisionOptions
from vla_ros.policies.base import MOST_STEPS, Batch, PolicyConfig
from vla_ros.policies.common.action_objective import ActionObjectiveConfig
from vla_ros.policies.common.observation_tokens import TokensConfig
from vla_ros.processors import ABSENT, TextSpec
from vla_ros.registry import ObjectiveName
from vla_ros.schema import About, Only

GOAL_KEY = GOAL_IMAGE
TEXT_KEY = "task_tokens"
TEXT_MASK_KEY = "task_mask"

PALIGEMMA_TEXT = TextSpec(kind="tokenizer", source="google/paligemma-3b-pt-224", length=48, vocabulary_size=257_216)
"""The text of the published models. The vocabulary is the embedding's size, more than the tokenizer's tokens."""


_LEARNS = Only("where the action expert is trained", lambda config: config.learns_flow)
_LEARNS_FROM_NOISE = Only(
    "where the action expert is trained to take noise away",
    lambda config: config.learns_flow and config.action_objective.is_denoising,
)
_SAMPLES = Only(
    "where the action expert's actions are predicted, from noise",
    lambda config: config.samples_flow and config.action_objective.is_denoising,
)


@dataclass(frozen=True, kw_only=True)
class GoalCameraConfig(PolicyConfig):
    """Options of policies that may see a picture of their goal."""

    goal_camera: Annotated[
        str | None,
        About(
            "The camera whose weights read `goal.image`; by default the first one. Training fills in the contract's.",
            only=Only(f"with '{GOAL_IMAGE}' among the inputs", lambda config: config.has_goal),
        ),
    ] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal_camera is not None and self.goal_camera not in self.camera_keys:
            known, hint = ", ".join(self.camera_keys), nearest_name(self.goal_camera, self.camera_keys)
            raise ConfigError(f"goal_camera '{self.goal_camera}' is not a camera among the inputs: {known}.{hint}")

    @property
    def has_goal(self) -> bool:
        """Whether there is room for a goal image."""
        return GOAL_IMAGE in self.inputs

    @property
    def camera_keys(self) -> tuple[str, ...]:
        """Keys of the cameras, in order, without the goal."""
        return tuple(key for key in self.image_keys if key != GOAL_IMAGE)

    @property
    def camera_of_goal(self) -> str:
        """The camera whose weights read the goal."""
        return self.goal_camera or self.camera_keys[0]

    def check_goal_size(self) -> None:
        """Refuse a goal of another size than the images of its camera.

        Raises:
            ConfigError: Names both sizes.
        """
        if not self.has_goal:
            return
        (height, width, _), camera = self.inputs[GOAL_IMAGE].shape, self.camera_of_goal
        if self.inputs[camera].shape[:2] != (height, width):
            of_camera = "×".join(map(str, self.inputs[camera].shape[:2]))
            raise ConfigError(
                f"inputs: '{GOAL_IMAGE}' is {height}×{width} and would be read as images of '{camera}', {of_camera}; "
                "name the camera that took it in goal_camera."
            )


@dataclass(frozen=True, kw_only=True)
class MultimodalConfig(ActionObjectiveConfig, GoalCameraConfig, TokensConfig):
    """Options of policies whose language-model expert meets an action expert; the defaults are PaliGemma's sizes.

    The batch holds the instruction as ``task_tokens`` int64 [B, L] and ``task_mask`` bool [B, L] (True where there is a
    token).
    """

    input_kinds: ClassVar[tuple[str, ...] | None] = ("image", "vector")
    needs_camera: ClassVar[bool] = True
    text_kinds: ClassVar[tuple[str, ...]] = ("tokenizer", "characters")
    takes_goal_image: ClassVar[bool] = True

    vision: Annotated[VisionOptions, About("How images become tokens.")] = field(default_factory=VisionOptions)
    attention: Annotated[AttentionOptions, About("What the two experts share.")] = field(
        default_factory=AttentionOptions
    )
    prefix_expert: Annotated[ExpertOptions, About("The language model, which sees images and text.")] = field(
        default_factory=lambda: ExpertOptions(width=2048, mlp_dim=16384)
    )
    action_expert: Annotated[ExpertOptions, About("The smaller one, which sees proprioception and actions.")] = field(
        default_factory=lambda: ExpertOptions(width=1024, mlp_dim=4096)
    )
    text: Annotated[TextSpec | None, About("The instruction; null when the policy reads none.")] = PALIGEMMA_TEXT
    goal_dropout: Annotated[
        float,
        About(
            "Share of training samples that see no goal image. Above 0, an observation without `goal.image` is "
            "allowed.",
            at_least=0,
            below=1,
        ),
    ] = 0.0
    objective: Annotated[
        ObjectiveName,
        About(
            "What the action expert learns. `flow_matching`: the velocity from noise to actions. `diffusion`: the "
            "noise in noisy actions; the network is the same, its weights are not. A regression or `cross_entropy` "
            "over bins: the actions themselves, in one pass.",
            only=_LEARNS,
        ),
    ] = "flow_matching"
    flow_steps: Annotated[
        int,
        About(
            "Steps from noise to actions: Euler's for flow matching, DDIM's for diffusion.",
            at_least=1,
            at_most=MOST_STEPS,
            only=_SAMPLES,
        ),
    ] = 10
    flow_samples: Annotated[
        int,
        About(
            "Noise and time draws per training sample. More than one share the encoding of the observation, which is "
            "most of the work.",
            at_least=1,
            at_most=MOST_STEPS,
            only=_LEARNS_FROM_NOISE,
        ),
    ] = 1
    pretrained_language: Annotated[
        str | None,
        About(
            "Gemma or PaliGemma of transformers to start from: a folder, or a name read from the hub's cache "
            "(`download:NAME` fetches it). Null starts from nothing."
        ),
    ] = None
    pretrained_vision: Annotated[
        str | None, About("SigLIP or PaliGemma of transformers to start from, as `pretrained_language`.")
    ] = None

    @property
    def learns_flow(self) -> bool:
        """Whether the action expert is trained."""
        return True

    @property
    def samples_flow(self) -> bool:
        """Whether the action expert's actions are predicted."""
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.goal_dropout and not self.has_goal:
            raise ConfigError(f"goal_dropout={self.goal_dropout:g}, but '{GOAL_KEY}' is not among the inputs.")
        if self.pretrained_vision is not None and self.vision.kind != "vit":
            raise ConfigError(f"pretrained_vision needs vision.kind 'vit', got '{self.vision.kind}'.")
        self._check_image_sizes()

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """The goal's picture, where training has hidden it now and then."""
        return (*super().optional_inputs, *((GOAL_KEY,) if self.goal_dropout else ()))

    @property
    def image_sizes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) in pixels of each camera."""
        return tuple((self.inputs[key].shape[0], self.inputs[key].shape[1]) for key in self.camera_keys)

    @property
    def camera_of_image(self) -> tuple[int, ...]:
        """Index of the camera of each image that `read_observation` returns; for the goal, that of `camera_of_goal`."""
        cameras = [camera for camera in range(len(self.camera_keys)) for _ in range(self.n_obs_steps)]
        return (*cameras, self.camera_keys.index(self.camera_of_goal)) if self.has_goal else tuple(cameras)

    def _check_image_sizes(self) -> None:
        sizes = self.image_sizes
        if self.vision.share and len(set(sizes)) > 1:
            raise ConfigError(f"vision: share needs cameras of one image size, got {sorted(set(sizes))}.")
        self.check_goal_size()


@dataclass(frozen=True)
class ObservationParts:
    """An observation without its keys.

    Attributes:
        images: I of them, float [B, 3, h, w]: each camera's frames, oldest first, camera by camera; the goal last.
        image_valid_BI: bool [B, I].
        text_BL: int64 [B, L], or None.
        text_valid_BL: bool [B, L], or None.
        state_BTS: float [B, T, S]; S is 0 without proprioception.
        state_valid_BT: bool [B, T].
    """

    images: tuple[Tensor, ...]
    image_valid_BI: Tensor
    text_BL: Tensor | None
    text_valid_BL: Tensor | None
    state_BTS: Tensor
    state_valid_BT: Tensor


def read_observation(
    observation: Batch, config: MultimodalConfig, drop_goal_B: Tensor | None = None
) -> ObservationParts:
    """Take an observation apart. Frames before the episode's begin (``is_pad``) are padding.

    Args:
        observation: As `vla_ros.policies.base` describes it, keys and shapes checked.
        config: Which keys.
        drop_goal_B: bool [B], True where the goal image is to be hidden.

    Raises:
        ObservationError: Text tokens are needed and missing, or of another shape.
    """
    first = observation[config.camera_keys[0]]
    batch_size, steps = first.shape[:2]
    seen_BT = torch.ones(batch_size, steps, dtype=torch.bool, device=first.device)
    if "is_pad" in observation:
        seen_BT = ~observation["is_pad"].bool()
    images = [image for key in config.camera_keys for image in observation[key].unbind(1)]
    # a camera that a sample's robot does not have, in a policy of several robots
    absent = [observation.get(key + ABSENT) for key in config.camera_keys]
    valid = [seen_BT if absent_B is None else seen_BT & ~absent_B[:, None] for absent_B in absent]
    if config.has_goal:
        images.append(observation[GOAL_KEY][:, -1] if GOAL_KEY in observation else torch.zeros_like(images[0]))
        given_B = torch.full_like(seen_BT[:, 0], GOAL_KEY in observation)
        valid.append((given_B if drop_goal_B is None else given_B & ~drop_goal_B)[:, None])
    text_BL, text_valid_BL = _text(observation, config, batch_size)
    vectors = [observation[key] for key in config.vector_keys]
    state_BTS = torch.cat(vectors, dim=-1) if vectors else first.new_zeros(batch_size, 0, 0)
    state_valid_BT = seen_BT if vectors else seen_BT[:, :0]
    if vectors:
        state_BTS = state_BTS.masked_fill(~seen_BT[..., None], 0.0)
    return ObservationParts(tuple(images), torch.cat(valid, 1), text_BL, text_valid_BL, state_BTS, state_valid_BT)


def draw_goal_dropout(
    config: MultimodalConfig, batch_size: int, generator: torch.Generator | None, device: torch.device
) -> Tensor | None:
    """Draw which training samples see no goal, bool [B]; None when none is ever dropped."""
    if not config.goal_dropout:
        return None
    source = device if generator is None else generator.device
    return torch.rand(batch_size, generator=generator, device=source).to(device) < config.goal_dropout


def _text(observation: Batch, config: MultimodalConfig, batch_size: int) -> tuple[Tensor | None, Tensor | None]:
    if config.text is None:
        return None, None
    missing = [key for key in (TEXT_KEY, TEXT_MASK_KEY) if key not in observation]
    if missing:
        raise ObservationError(
            f"The observation lacks {' and '.join(missing)}, which text of kind '{config.text.kind}' becomes; "
            "processors make it of 'task' when told to use this text."
        )
    length = config.text.length
    for key in (TEXT_KEY, TEXT_MASK_KEY):
        got = tuple(observation[key].shape)
        if got != (batch_size, length):
            raise ObservationError(f"'{key}' must be [B={batch_size}, L={length}], got {list(got)}.")
    return observation[TEXT_KEY], observation[TEXT_MASK_KEY].bool()
