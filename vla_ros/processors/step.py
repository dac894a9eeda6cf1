"""One step between what a robot measures and what its policy sees. No files, no architecture, no list of steps.

A step works on batches whose values are tensors, in the axis order of `vla_ros.datasets` windows; what it changes comes
back as new data. Its options are plain and checked, its fitted state is tensors, both are saved with the checkpoint.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor

from vla_ros.contract import FeatureSpec
from vla_ros.data_types import CheckpointError
from vla_ros.registry import ProcessorName, check_names
from vla_ros.schema import About, Checked

if TYPE_CHECKING:
    from vla_ros.processors.fitting import FitData

Batch = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class StepChoice(Checked):
    """A step by name, with its options."""

    name: Annotated[ProcessorName, About("Name in `vla_ros.registry.PROCESSORS`.")]
    options: Annotated[dict[str, Any], About("Its options; `resize`, `normalise` and `text` take none here.")] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        check_names(self)
        super().__post_init__()


@dataclass(frozen=True)
class Features:
    """What the features are at one place between robot and policy.

    Attributes:
        inputs: Observations by key.
        action: The action.
    """

    inputs: Mapping[str, FeatureSpec]
    action: FeatureSpec

    def __getitem__(self, key: str) -> FeatureSpec:
        """Return a feature, the action by its key too."""
        return self.action if key == self.action.key else self.inputs[key]

    @property
    def numeric_keys(self) -> tuple[str, ...]:
        """Keys of all features but images, the action among them."""
        return (*(key for key, spec in self.inputs.items() if spec.kind != "image"), self.action.key)

    @property
    def specs(self) -> dict[str, FeatureSpec]:
        """All features by key, the action last."""
        return {**self.inputs, self.action.key: self.action}


@dataclass(frozen=True, kw_only=True)
class NoOptions(Checked):
    """Options of a step that has none."""


class ProcessorStep:
    """One step. Subclasses set `name`, and `options_class` to a frozen `Checked` dataclass.

    A batch that `forward` gets holds some of the features of `before`, never necessarily all: observations without an
    action when the policy predicts, the action with the inputs in `reads` when an action is processed.

    Attributes:
        name: In the registry.
        options_class: What a recipe may say.
        makes_motion: Of the class: whether actions after it say how to move from the observation's state, so that zero
            is standing still.
        needs_units: Of the class: whether it works on numbers in the robot's units, and so before `normalise`.
        options: What it was told.
        before, after: The features that go in and come out.
    """

    name: ClassVar[str]
    options_class: ClassVar[type] = NoOptions
    makes_motion: ClassVar[bool] = False
    needs_units: ClassVar[bool] = False

    def __init__(self, options: Any, before: Features) -> None:
        """Check options and features.

        Raises:
            ConfigError: The options are wrong for these features; one sentence.
        """
        self.options, self.before = options, before
        self.after = self.features_after()

    def features_after(self) -> Features:
        """Return the features that come out; by default those that go in."""
        return self.before

    @property
    def changes(self) -> tuple[str, ...]:
        """Keys whose values come out changed; their statistics are measured anew for the steps that follow."""
        return self.before.numeric_keys

    @property
    def reads(self) -> tuple[str, ...]:
        """Keys of the inputs without which `forward` cannot change an action, nor `inverse` change it back."""
        return ()

    def fit(self, data: "FitData") -> None:
        """Learn the state from the training data as they are before this step; by default there is none."""

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the batch with the features of `after` in place of those of `before`.

        Args:
            batch: Tensors: images [B, T, h, w, 3]; vectors [B, T, S]; windows [B, T, K, F]; points [B, T, N, F];
                ``action`` [B, H, A], ``action_is_pad`` bool [B, H]; ``past_action`` [B, T-1, A]; ``task`` B strings.
        """
        return dict(batch)

    def inverse(self, actions_BHA: Tensor, batch: Batch) -> Tensor:  # noqa: ARG002  # for steps that read it
        """Undo the step on predicted actions.

        Args:
            actions_BHA: As `forward` returns them, float [B, H, A].
            batch: The observation as it is before this step; holds the keys in `reads`.
        """
        return actions_BHA

    def state(self) -> dict[str, Tensor]:
        """Return what `fit` learnt, by name."""
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what `state` returned.

        Raises:
            CheckpointError: A tensor is missing, surplus or not possible.
        """
        surplus = next(iter(tensors), None)
        if surplus is not None:
            raise CheckpointError(f"processor '{self.name}' has no state '{surplus}'.")

    def to(self, device: torch.device | str) -> None:
        """Move the state to a device; by default there is none."""

    def summary(self) -> str:
        """Say in a few words what is done."""
        return ""
