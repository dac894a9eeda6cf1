"""One prediction per action number, and what it is trained by: regression or bins, as several architectures offer them.

A motion of three numbers may be predicted as length and direction (`vla_ros.objectives.spherical`); what stands beside
it in the action, as a gripper, stays as it is. No network.

Axis legend: B batch, H action_horizon, A action_dim, V bins.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.objectives import (
    MagnitudeScaling,
    UniformBins,
    cross_entropy,
    l1,
    magnitude_weight,
    padding_of_numbers,
    scale_to_spherical,
    spherical_error,
    to_cartesian,
)
from vla_ros.policies.base import Batch, LossOutput, PolicyConfig
from vla_ros.processors import ACTION_DIM_IS_PAD
from vla_ros.registry import OBJECTIVES, ObjectiveName
from vla_ros.schema import About, Only

BINNED = "cross_entropy"
"""The objective over bins; any other one in the registry is a regression's."""


_BINNED = Only("with objective 'cross_entropy'", lambda config: config.action_objective.is_binned)
_SPHERICAL = Only("with coordinates 'spherical'", lambda config: config.coordinates == "spherical")
_MOTION = Only(
    "with magnitude_weighting, or with coordinates 'spherical'",
    lambda config: config.coordinates == "spherical" or config.action_objective.magnitude_weighting,
)
REGRESSED = Only("in a regression", lambda config: config.objective != BINNED)
"""Of ``tanh``: bins are within [−1, 1] as they are."""


@dataclass(frozen=True, kw_only=True)
class ActionObjectiveConfig(PolicyConfig):
    """Options of what is predicted for each action number."""

    bins: Annotated[int, About("V, over [−1, 1].", at_least=2, only=_BINNED)] = 256
    magnitude_names: Annotated[
        tuple[str, ...],
        About(
            "Action numbers that make up the motion and its length ‖a‖. Empty: in training all but the gripper; where "
            "no robot is known, all.",
            only=_MOTION,
        ),
    ] = ()
    coordinates: Annotated[
        Literal["cartesian", "spherical"],
        About(
            "`cartesian`: numbers as they are. `spherical`: the three numbers of `magnitude_names` as length and "
            "direction."
        ),
    ] = "cartesian"
    magnitude_scaling: Annotated[
        Literal["affine", "sigmoid_tanh"],
        About(
            "Of the spherical length. `affine`: 0 to `magnitude_max`. `sigmoid_tanh`: the walkthrough's, which reaches "
            "only 0.269 to 0.731.",
            only=_SPHERICAL,
        ),
    ] = "affine"
    magnitude_max: Annotated[
        float,
        About(
            "Largest spherical length, of the normalised motion; √3 reaches every corner of [−1, 1]³.",
            above=0,
            only=Only(
                "with coordinates 'spherical' and magnitude_scaling 'affine'",
                lambda config: config.coordinates == "spherical" and config.magnitude_scaling == "affine",
            ),
        ),
    ] = 3**0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.magnitude_names)) < len(self.magnitude_names):
            raise ConfigError(f"magnitude_names: {', '.join(self.magnitude_names)}: a number stands there twice.")
        for name in self.magnitude_names:
            if name not in self.action.names:
                known = ", ".join(self.action.names)
                hint = nearest_name(name, self.action.names)
                raise ConfigError(f"magnitude_names: '{name}' is not a number of the action: {known}.{hint}")
        if self.coordinates == "spherical" and len(self.magnitude_indices) != 3:
            names = self.magnitude_names or self.action.names
            raise ConfigError(
                f"coordinates 'spherical' needs a motion of three numbers, got {', '.join(names)}; "
                "name its x, y and z in magnitude_names."
            )

    @property
    def motion_names(self) -> tuple[str, ...]:
        """The numbers of the motion, where the loss takes its length or direction."""
        measured = self.coordinates == "spherical" or self.action_objective.magnitude_weighting
        return self.magnitude_names or self.action.names if measured else ()

    @property
    def action_objective(self) -> "ActionObjective":
        """How raw numbers become actions and a loss."""
        raise NotImplementedError

    @property
    def magnitude_indices(self) -> tuple[int, ...]:
        """Indices of the action numbers that make up the motion."""
        names = self.magnitude_names or self.action.names
        return tuple(self.action.names.index(name) for name in names)


@dataclass(frozen=True)
class ActionObjective:
    """From a network's raw numbers, [B, H, A] or, of bins, [B, H, A, V], to actions and to a loss.

    Attributes:
        config: Which numbers are the motion, and its coordinates.
        name: In `vla_ros.registry.OBJECTIVES`: the error of a regression, or ``cross_entropy`` over bins.
        tanh: Whether a regression's raw numbers are bounded to (−1, 1).
        magnitude_weighting: Multiply each step's loss by 1 + 2‖a‖ of its target's motion.
    """

    config: ActionObjectiveConfig
    name: ObjectiveName
    tanh: bool
    magnitude_weighting: bool

    def __post_init__(self) -> None:
        if self.config.coordinates == "spherical" and self.is_binned:
            raise ConfigError(
                "coordinates 'spherical' are regressed; bins of the objective 'cross_entropy' are cartesian."
            )
        if self.config.coordinates == "spherical" and not self.tanh:
            raise ConfigError("coordinates 'spherical' scales bounded numbers; set tanh to true.")

    @property
    def is_binned(self) -> bool:
        """Whether raw numbers are logits."""
        return self.name == BINNED

    @property
    def bounded(self) -> bool:
        """Whether actions lie in [−1, 1]."""
        return self.tanh or self.is_binned

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Axes of the raw numbers of one step: A, or A and V."""
        return (self.config.action_dim, self.config.bins) if self.is_binned else (self.config.action_dim,)

    @property
    def summary(self) -> str:
        """The loss in a few words."""
        spherical = " of length and direction" if self.config.coordinates == "spherical" else ""
        bins = f" over {self.config.bins} bins" if self.is_binned else ""
        return f"{self.name}{bins}{spherical}{', each step times 1 + 2‖a‖' if self.magnitude_weighting else ''}"

    def actions(self, raw: Tensor) -> Tensor:
        """Return normalised actions, float [B, H, A]; within [−1, 1] if bounded."""
        if self.is_binned:
            return self._bins.decode(raw.argmax(dim=-1))
        bounded_BHA = self._bounded(raw)
        if self.config.coordinates == "cartesian":
            return bounded_BHA
        # a length may reach beyond the cube that bounded actions lie in
        return self._with_motion(bounded_BHA, to_cartesian(self._spherical(bounded_BHA)).clamp(-1.0, 1.0))

    def loss_of(self, raw: Tensor, batch: Batch) -> LossOutput:
        """Return the loss of a batch; ``terms`` holds the mean absolute error of the actions, ``l1``."""
        is_pad_BH = batch["action_is_pad"]
        # what stands in padding may be anything, even NaN
        if ACTION_DIM_IS_PAD in batch:
            is_pad_BH = padding_of_numbers(is_pad_BH, batch[ACTION_DIM_IS_PAD])
        target_BHA = batch["action"].masked_fill(is_pad_BH if is_pad_BH.ndim == 3 else is_pad_BH[..., None], 0.0)
        weight_BH1 = magnitude_weight(target_BHA[..., self._motion]) if self.magnitude_weighting else None
        if self.is_binned:
            loss = cross_entropy(raw, self._bins.encode(target_BHA), is_pad_BH, weight_BH1=weight_BH1)
        else:
            loss = OBJECTIVES[self.name](*self._compared(raw, target_BHA), is_pad_BH, weight_BH1=weight_BH1)
            if not isinstance(loss, Tensor) or loss.ndim:
                got = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
                raise ConfigError(f"objective '{self.name}' returned {got}; expected a loss, a tensor of no axes.")
        return LossOutput(loss, {"l1": l1(self.actions(raw.detach()), target_BHA, is_pad_BH)})

    def _compared(self, raw_BHA: Tensor, target_BHA: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the loss measures between; a spherical motion is given as its error, beside an error of 0."""
        bounded_BHA = self._bounded(raw_BHA)
        if self.config.coordinates == "cartesian":
            return bounded_BHA, target_BHA
        error_BH3 = spherical_error(self._spherical(bounded_BHA), target_BHA[..., self._motion])
        return self._with_motion(bounded_BHA, error_BH3), self._with_motion(target_BHA, torch.zeros_like(error_BH3))

    def _bounded(self, raw_BHA: Tensor) -> Tensor:
        # in float32 under autocast too: angles of half precision are a degree off
        return raw_BHA.float().tanh() if self.tanh else raw_BHA.float()

    def _spherical(self, bounded_BHA: Tensor) -> Tensor:
        scaling: MagnitudeScaling = self.config.magnitude_scaling
        return scale_to_spherical(bounded_BHA[..., self._motion], scaling, self.config.magnitude_max)

    def _with_motion(self, values_BHA: Tensor, motion_BH3: Tensor) -> Tensor:
        replaced_BHA = values_BHA.clone()
        replaced_BHA[..., self._motion] = motion_BH3
        return replaced_BHA

    @property
    def _bins(self) -> UniformBins:
        return UniformBins(-1.0, 1.0, self.config.bins)

    @property
    def _motion(self) -> list[int]:
        return list(self.config.magnitude_indices)
