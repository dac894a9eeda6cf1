"""The interface of every architecture, and what surrounds it: checks, no gradients, committed actions, named tensors.

An architecture's own file holds two methods: `Policy.training_loss` and `Policy.infer`. It has no hidden state. No
rclpy, no datasets.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, S state_dim, C channels, h, w pixels.

An observation or training batch is a flat mapping of feature keys to batched values, already normalised by the
checkpoint's processors:

    <image key>     float32 [B, T, 3, h, w]
    <vector key>    float32 [B, T, S]
    <window key>    float32 [B, T, K, F]
    <points key>    float32 [B, T, N, F], rows of NaN where there is no point
    "task"          list of B instructions; tensors made of them stand beside it, as the config's ``text`` asks
    "action"        float32 [B, H, A]      (training only)
    "action_is_pad" bool [B, H]            (training only), True past the end of the episode
    "past_action"   float32 [B, T-1, A]    (training, where `needs_past_action`) actions of the frames before the newest
    "is_pad"        bool [B, T]            True where the first frame was repeated before the episode's begin
    "action_dim_is_pad" bool [B, A]        (policies of several robots) True for numbers that the sample's robot lacks
    "<image key>.is_absent" bool [B]       (policies of several robots) True where the sample's robot has no such camera
    "is_known"      bool [B, T]            (prediction with a state) True for frames that made the state; without it
                                           all but the newest did
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor, nn

from vla_ros.contract import GOAL_IMAGE, FeatureSpec
from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.networks.attention.block import Attention
from vla_ros.processors import ACTION_DIM_IS_PAD, TextSpec, form_of
from vla_ros.registry import OWN, TEXT_MODELS, check_names
from vla_ros.schema import About, Checked

PolicyState = Mapping[str, Tensor]
"""Recurrent or memory state of a batch. Owned by the caller, who drops it at the start of an episode."""

Batch = Mapping[str, Any]

MOST_STEPS = 10_000
"""Frames, actions or passes of one prediction; more is a slip that would take all memory or never end."""


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(Checked):
    """Configuration common to all architectures; each adds its own fields, checked when built.

    Attributes:
        architecture: Of the class: what messages call it.
        input_kinds: Of the class: kinds of features that it takes as they are; None takes any.
        needs_camera: Of the class: whether one input at least must be a camera.
        text_kinds: Of the class: the kinds of text that the architecture can read; of another package, it reads those
            that have one of these kinds' form.
        takes_goal_image: Of the class: whether it can follow an image of the goal, ``goal.image``.
    """

    architecture: ClassVar[str] = "this policy"
    input_kinds: ClassVar[tuple[str, ...] | None] = None
    needs_camera: ClassVar[bool] = False
    text_kinds: ClassVar[tuple[str, ...]] = ()
    takes_goal_image: ClassVar[bool] = False

    inputs: Annotated[dict[str, FeatureSpec], About("Features that the policy sees, by key.")]
    action: Annotated[FeatureSpec, About("The action feature.")]
    n_obs_steps: Annotated[int, About("T, frames per observation.", at_least=1, at_most=MOST_STEPS)] = 1
    action_horizon: Annotated[int, About("H, steps predicted.", at_least=1, at_most=MOST_STEPS)] = 1
    n_action_steps: Annotated[
        int,
        About("Steps of a chunk meant to be executed before a newer one replaces it.", at_least=1, at_most=MOST_STEPS),
    ] = 1
    text: Annotated[
        TextSpec | None,
        About("How the policy wants the instruction; null when it reads none. The processors make it so."),
    ] = None

    def __post_init__(self) -> None:
        check_names(self)
        super().__post_init__()
        if self.n_action_steps > self.action_horizon:
            raise ConfigError(
                f"n_action_steps={self.n_action_steps} exceeds action_horizon={self.action_horizon}; "
                f"the policy predicts only {self.action_horizon} steps."
            )
        if not self.inputs:
            raise ConfigError("inputs is empty; a policy needs at least one feature to see.")
        self._check_inputs()
        if GOAL_IMAGE in self.inputs and not self.takes_goal_image:
            raise ConfigError(
                f"inputs: '{GOAL_IMAGE}' is the picture of a goal, which this policy cannot follow; remove it."
            )
        if self.text is not None and not self.reads_text(self.text.kind):
            readable = f"text of kind {' or '.join(self.text_kinds)}" if self.text_kinds else "no text"
            raise ConfigError(f"text: kind '{self.text.kind}', but this policy reads {readable}.")

    @classmethod
    def reads_text(cls, kind: str) -> bool:
        """Whether the architecture can read a kind of text."""
        if kind in cls.text_kinds or TEXT_MODELS.entry(kind).owner == OWN:
            return kind in cls.text_kinds
        return form_of(kind) in {form_of(known) for known in cls.text_kinds}

    def _check_inputs(self) -> None:
        for key, spec in self.inputs.items():
            if self.input_kinds is not None and spec.kind not in self.input_kinds and key not in self.encoded_inputs:
                kinds = " and ".join(f"{kind}s" for kind in self.input_kinds)
                remedy = "; name an encoder for it in sensors" if hasattr(self, "sensors") else ""
                raise ConfigError(f"inputs: '{key}' holds {spec.kind}; {self.architecture} sees {kinds} only{remedy}.")
        if self.needs_camera and not any(key != GOAL_IMAGE for key in self.image_keys):
            raise ConfigError(
                f"inputs: no camera among {', '.join(self.inputs)}; {self.architecture} needs at least one."
            )

    @property
    def encoded_inputs(self) -> tuple[str, ...]:
        """Inputs that a sensor encoder turns into tokens; the architecture itself does not see them."""
        return ()

    @property
    def image_keys(self) -> tuple[str, ...]:
        """Keys of the image inputs, in order."""
        return self._keys_of("image")

    @property
    def vector_keys(self) -> tuple[str, ...]:
        """Keys of the vector inputs (proprioception), in order."""
        return self._keys_of("vector")

    def _keys_of(self, kind: str) -> tuple[str, ...]:
        encoded = self.encoded_inputs
        return tuple(key for key, spec in self.inputs.items() if spec.kind == kind and key not in encoded)

    @property
    def state_dim(self) -> int:
        """Numbers in all vector inputs together."""
        return sum(self.inputs[key].shape[0] for key in self.vector_keys)

    @property
    def action_dim(self) -> int:
        """A, numbers per action."""
        return self.action.shape[0]

    @property
    def optional_inputs(self) -> tuple[str, ...]:
        """Inputs that an observation may lack."""
        return ()

    @property
    def reads_instruction(self) -> bool:
        """Whether the instruction is seen."""
        return self.text is not None

    @property
    def goals(self) -> tuple[str, ...]:
        """What tells the policy its goal: ``instruction``, ``goal_image``, both, or nothing."""
        given = {"instruction": self.reads_instruction, "goal_image": GOAL_IMAGE in self.inputs}
        return tuple(name for name, is_given in given.items() if is_given)

    @property
    def loss_summary(self) -> str:
        """What training minimises, in a few words; empty where the architecture does not say."""
        return ""

    @property
    def needs_past_action(self) -> bool:
        """Whether training also needs the actions of the frames before the newest."""
        return False

    @property
    def needs_progress(self) -> bool:
        """Whether training also needs how much of the episode has passed at each frame."""
        return False

    @property
    def training_frames(self) -> int:
        """Frames of a training window; more than `n_obs_steps` where training unrolls a memory further."""
        return self.n_obs_steps

    @property
    def bounded_actions(self) -> bool:
        """Whether predictions lie in [−1, 1]; the actions must then be normalised to that range."""
        return False

    @property
    def motion_names(self) -> tuple[str, ...]:
        """Action numbers of whose vector the loss takes a length or a direction; they must then keep their zero."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for YAML or JSON."""
        return asdict(self)


@dataclass(frozen=True)
class LossOutput:
    """A training loss.

    Attributes:
        loss: Scalar to differentiate.
        terms: Named scalars for logging, detached.
    """

    loss: Tensor
    terms: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a prediction is made with, beside the observation.

    Attributes:
        state: What the last prediction of this episode returned, None at its start.
        generator: Source of sampling noise; None is torch's own.
        prefix_BPA: Actions that are committed already and will be executed whatever is predicted: the first P steps of
            the chunk, normalised, float [B, P, A]; P may be 0.
        dim_is_pad_BA: bool [B, A], True for numbers that a sample's robot does not have; None: all there.
    """

    state: PolicyState | None
    generator: torch.Generator | None
    prefix_BPA: Tensor
    dim_is_pad_BA: Tensor | None = None


@dataclass(frozen=True)
class PolicyOutput:
    """A prediction.

    Attributes:
        actions: Normalised actions, float32 [B, H, A].
        state: State to pass in with the next observation of the same episode, or None.
        intermediates: Name → tensor computed on the way, such as ``tokens`` [B, L, D], ``mask`` (True: may be attended
            to) and ``attention`` weights by layer; empty unless asked for.
        segments: What the tokens stand for: (name, number of tokens) in their order, adding up to L.
    """

    actions: Tensor
    state: PolicyState | None = None
    intermediates: Mapping[str, Tensor] = field(default_factory=dict)
    segments: tuple[tuple[str, int], ...] = ()


class Policy(nn.Module):
    """An architecture. Subclasses set `config_class` and `name`, and hold no state of an episode.

    A subclass has `training_loss` and `infer`; what surrounds them is done here. One that replaces `compute_loss` and
    `predict_action_chunk` instead works as well, but no committed action conditions it and it names no tensors.

    Attributes:
        pads_actions: Of the class: whether numbers of the action that a sample's robot lacks are left out of the loss;
            what a mixture of robots with different actions needs.
        masks_cameras: Of the class: whether cameras that a sample's robot lacks are left out of what is seen.
    """

    name: ClassVar[str]
    config_class: ClassVar[type[PolicyConfig]]
    config: PolicyConfig
    pads_actions: ClassVar[bool] = False
    masks_cameras: ClassVar[bool] = False

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config

    def training_loss(self, batch: Batch, generator: torch.Generator | None) -> LossOutput:
        """Return the loss of a batch that was checked; padded steps must contribute nothing to it."""
        raise NotImplementedError(f"{type(self).__name__} has no training_loss.")

    def infer(self, observation: Batch, request: Request) -> PolicyOutput:
        """Predict from an observation that was checked; runs without gradients.

        Tensors put into ``intermediates`` cost nothing where they exist anyway; `predict` adds attention weights.
        """
        raise NotImplementedError(f"{type(self).__name__} has no infer.")

    def compute_loss(self, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Return the training loss of a batch; padded steps contribute nothing to it.

        Args:
            batch: As in the module's docstring, with ``action`` and ``action_is_pad``.
            generator: Source of sampling noise, for policies that draw it.

        Raises:
            ObservationError: Keys or shapes differ from the config's; lists them.
        """
        self.check_observation(batch)
        self._check_actions(batch)
        return self.training_loss(batch, generator)

    def predict_action_chunk(
        self, observation: Batch, state: PolicyState | None = None, generator: torch.Generator | None = None
    ) -> PolicyOutput:
        """Predict the next actions for each observation in the batch.

        Args:
            observation: Normalised, as in the module's docstring.
            state: What the last call of this episode returned, None at its start.
            generator: Source of sampling noise; fix it for repeatable actions.

        Returns:
            Normalised actions, float32 [B, H, A]. Step 0 is due at the observation's stamp.

        Raises:
            ObservationError: Keys or shapes differ from those trained on; lists them.
        """
        return self.predict(observation, state, generator)

    def predict(
        self,
        observation: Batch,
        state: PolicyState | None = None,
        generator: torch.Generator | None = None,
        *,
        prefix: Tensor | None = None,
        return_intermediates: bool = False,
    ) -> PolicyOutput:
        """Predict as `predict_action_chunk`, continuing committed actions, or showing what is computed on the way.

        Args:
            observation: As there.
            state: As there.
            generator: As there.
            prefix: The first P ≤ H actions of the chunk, normalised, float [B, P, A], where they are committed already
                (real-time chunking); they are returned unchanged. Whether the others continue them: `follows_prefix`.
            return_intermediates: Whether `PolicyOutput.intermediates` and ``segments`` are wanted. Attention weights
                are then computed a second time, in full.

        Raises:
            ObservationError: Keys or shapes differ from those trained on, or the prefix's do.
        """
        replaced = type(self).infer is Policy.infer
        with torch.no_grad(), _recorded_attention(self, return_intermediates) as attention:
            if replaced:
                output = self.predict_action_chunk(observation, state, generator)
                prefix_BPA = self._checked_prefix(prefix, output.actions)
            else:
                self.check_observation(observation)
                like = observation[next(key for key in self.config.inputs if key in observation)]
                prefix_BPA = self._checked_prefix(prefix, like)
                request = Request(state, generator, prefix_BPA, observation.get(ACTION_DIM_IS_PAD))
                output = self.infer(observation, request)
            if committed := prefix_BPA.shape[1]:
                output = replace(output, actions=torch.cat([prefix_BPA, output.actions[:, committed:]], dim=1))
        if not return_intermediates:
            return PolicyOutput(output.actions, output.state)
        return replace(output, intermediates={**output.intermediates, **attention})

    @property
    def follows_prefix(self) -> bool:
        """Whether later steps of a chunk take committed ones into account; else those are only put in their place."""
        return bool(getattr(getattr(self, "objective", None), "is_denoising", False))

    def _checked_prefix(self, prefix: Tensor | None, like: Tensor) -> Tensor:
        """Return the prefix, float [B, P, A]; P is 0 without one."""
        batch_size, horizon, size = len(like), self.config.action_horizon, self.config.action_dim
        if prefix is None:
            return like.new_zeros(batch_size, 0, size)
        got = tuple(prefix.shape)
        if len(got) != 3 or (got[0], got[2]) != (batch_size, size) or got[1] > horizon:
            raise ObservationError(
                f"Policy {self.name}: prefix must be [B={batch_size}, P ≤ {horizon}, A={size}], got {list(got)}."
            )
        if not bool(prefix.isfinite().all()):
            raise ObservationError(f"Policy {self.name}: prefix holds numbers that are not finite.")
        return prefix.to(like)

    def load_pretrained(self) -> None:
        """Take up the pretrained weights that the config names, if any; called once, before training.

        Building a policy leaves them alone, so that a checkpoint loads where they are not at hand.

        Raises:
            ConfigError: They cannot be read, or do not fit.
        """

    def check_observation(self, observation: Batch) -> None:
        """Refuse an observation whose keys or trailing shapes differ from the config's.

        Args:
            observation: As in the module's docstring; the config's `optional_inputs` may be missing.

        Raises:
            ObservationError: Names every missing key and every wrong shape at once.
        """
        problems = []
        for key, spec in self.config.inputs.items():
            if key not in observation:
                if key in self.config.optional_inputs:
                    continue
                problems.append(f"'{key}' is missing (given: {', '.join(observation)})")
                continue
            expected = image_shape(spec) if spec.kind == "image" else spec.shape
            got = tuple(observation[key].shape)
            if len(got) != len(expected) + 2 or got[1] != self.config.n_obs_steps or got[2:] != expected:
                wanted = ("B", self.config.n_obs_steps, *expected)
                problems.append(f"'{key}' must be [{', '.join(map(str, wanted))}], got {list(got)}")
        if problems:
            raise ObservationError(f"Policy {self.name}: {'; '.join(problems)}.")

    def _check_actions(self, batch: Batch) -> None:
        """Refuse a training batch whose actions or padding are missing or of other shapes."""
        horizon, size = self.config.action_horizon, self.config.action_dim
        wanted: dict[str, tuple[str | int, ...]] = {"action": ("B", horizon, size), "action_is_pad": ("B", horizon)}
        problems = []
        for key, shape in wanted.items():
            if key not in batch:
                problems.append(f"'{key}' is missing (given: {', '.join(batch)})")
            elif len(batch[key].shape) != len(shape) or tuple(batch[key].shape[1:]) != shape[1:]:
                problems.append(f"'{key}' must be [{', '.join(map(str, shape))}], got {list(batch[key].shape)}")
        if problems:
            raise ObservationError(f"Policy {self.name}: {'; '.join(problems)}.")

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters of each direct part, and ``total``."""
        parts = {name: part for name, part in self.named_children() if not getattr(part, "adds_nothing", False)}
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in parts.items()}
        own = sum(p.numel() for p in self.parameters(recurse=False))
        return {**counts, **({"own": own} if own else {}), "total": sum(p.numel() for p in self.parameters())}


def image_shape(spec: FeatureSpec) -> tuple[int, ...]:
    """Return (3, h, w): the shape in which a policy gets an image feature, stored as [h, w, 3]."""
    height, width, channels = spec.shape
    return (channels, height, width)


@contextmanager
def _recorded_attention(policy: nn.Module, wanted: bool) -> Iterator[dict[str, Tensor]]:
    """Collect the attention weights of every `Attention` by its place in the policy, once its block has run.

    A layer that runs several times (a denoising step each) is there with the last run.
    """
    found: dict[str, Tensor] = {}
    layers = {name: part for name, part in policy.named_modules() if isinstance(part, Attention)} if wanted else {}
    for layer in layers.values():
        layer.recorded = []
    try:
        yield found
        found.update({name: layer.recorded[-1] for name, layer in layers.items() if layer.recorded})
    finally:
        for layer in layers.values():
            layer.recorded = None
