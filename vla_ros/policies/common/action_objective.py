"""What a policy's output is trained by: options, and from what the network gives to actions and a loss. No network.

Every objective goes with every architecture: an architecture answers one question, `Predict`. Asked without noise, it
gives a number (or logits) for each action number, for a regression or bins; asked with noisy actions, it gives what
takes the noise away, for flow matching or diffusion.

A motion of three numbers may be regressed as length and direction; other dimensions (e.g. the gripper) are unchanged.

Axis legend: B batch, H action_horizon, A action_dim, V bins.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError, nearest_name
from vla_ros.objectives.noise import Noised, sample_noise
from vla_ros.objectives.regression import l1, magnitude_weight, of_numbers, padding_of_numbers
from vla_ros.policies.base import MOST_STEPS, Batch, LossOutput, PolicyConfig, Request
from vla_ros.processors import ACTION_DIM_IS_PAD
from vla_ros.registry import COORDINATES, OBJECTIVES, CoordinatesName, ObjectiveName
from vla_ros.schema import About, Only

BINNED = "cross_entropy"
CARTESIAN = "cartesian"

Predict = Callable[[Noised | None], Tensor]
"""What the network gives: float [B, H, A], of bins [B, H, A, V]; asked with noise for a multiple of the batch, each
sample so many times in a row."""


def _objective_is(*forms: str) -> Callable[[Any], bool]:
    return lambda config: config.action_objective.form in forms


_BINNED = Only("with objective 'cross_entropy'", _objective_is("classes"))
REGRESSED = Only("in a regression", _objective_is("regression"))
"""Of ``tanh``: bins are within [−1, 1] as they are, and what takes noise away has no bound."""
_DENOISED = Only("with objective 'flow_matching' or 'diffusion'", _objective_is("denoising"))
_DIFFUSION = Only("with objective 'diffusion'", lambda config: config.objective == "diffusion")
_SPHERICAL = Only("with coordinates 'spherical'", lambda config: config.coordinates == "spherical")
_MOTION = Only(
    "with magnitude_weighting, or with coordinates 'spherical'",
    lambda config: config.coordinates != CARTESIAN or config.action_objective.magnitude_weighting,
)


@dataclass(frozen=True, kw_only=True)
class ActionObjectiveConfig(PolicyConfig):
    """Options of what is predicted for each action number, and of what trains it."""

    objective: Annotated[
        ObjectiveName,
        About(
            "What the network learns: the error of a regression (`smooth_l1`, `mse`, `l1`), `cross_entropy` over bins, "
            "or to take noise away (`flow_matching`, `diffusion`)."
        ),
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
    bins: Annotated[int, About("V, over [−1, 1].", at_least=2, only=_BINNED)] = 256
    magnitude_names: Annotated[
        tuple[str, ...],
        About(
            "Action numbers that make up the motion and its length ‖a‖. Empty: in training the linear motion; where no "
            "robot is known, all.",
            only=_MOTION,
        ),
    ] = ()
    coordinates: Annotated[
        CoordinatesName,
        About(
            "`cartesian`: numbers as they are. `spherical`: the three numbers of `magnitude_names` as length and "
            "direction, in a regression."
        ),
    ] = CARTESIAN
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
    flow_steps: Annotated[
        int,
        About(
            "Steps from noise to actions: Euler's for flow matching, DDIM's for diffusion.",
            at_least=1,
            at_most=MOST_STEPS,
            only=_DENOISED,
        ),
    ] = 10
    flow_samples: Annotated[
        int,
        About(
            "Noise and time draws per training sample. More than one share the encoding of the observation, which is "
            "most of the work.",
            at_least=1,
            at_most=MOST_STEPS,
            only=_DENOISED,
        ),
    ] = 1
    diffusion_train_steps: Annotated[
        int, About("Noise levels of diffusion.", at_least=1, at_most=MOST_STEPS, only=_DIFFUSION)
    ] = 100
    diffusion_clip: Annotated[
        float | None,
        About(
            "Limit to which diffusion clips what it takes the actions for, in each step. 1 needs actions normalised to "
            "[−1, 1]; other normalisations need a limit that none of their actions passes. Null clips nothing, and "
            "takes a nearly perfect network: its errors at the noisiest level count 2,000-fold.",
            above=0,
            note="null clips nothing",
            only=_DIFFUSION,
        ),
    ] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.magnitude_names)) < len(self.magnitude_names):
            raise ConfigError(f"magnitude_names: {', '.join(self.magnitude_names)}: a number stands there twice.")
        for name in self.magnitude_names:
            if name not in self.action.names:
                known = ", ".join(self.action.names)
                hint = nearest_name(name, self.action.names)
                raise ConfigError(f"magnitude_names: '{name}' is not a number of the action: {known}.{hint}")
        if self.coordinates != CARTESIAN and len(self.magnitude_indices) != 3:
            names = self.magnitude_names or self.action.names
            raise ConfigError(
                f"coordinates '{self.coordinates}' needs a motion of three numbers, got {', '.join(names)}; "
                "name its x, y and z in magnitude_names."
            )
        if self.objective == "diffusion" and self.flow_steps > self.diffusion_train_steps:
            raise ConfigError(
                f"flow_steps={self.flow_steps} exceeds diffusion_train_steps={self.diffusion_train_steps}; "
                "sampling visits each noise level at most once."
            )
        self.action_objective.check()

    @property
    def action_objective(self) -> "ActionObjective":
        """How what the network gives becomes actions and a loss."""
        return ActionObjective(self, self.objective, self.tanh, self.magnitude_weighting)

    @property
    def loss_summary(self) -> str:
        """The objective."""
        return self.action_objective.summary

    @property
    def bounded_actions(self) -> bool:
        """Whether predictions lie in [−1, 1]."""
        return self.action_objective.bounded

    @property
    def motion_names(self) -> tuple[str, ...]:
        """The numbers of the motion, where the loss takes its length or direction."""
        measured = self.coordinates != CARTESIAN or self.action_objective.magnitude_weighting
        return self.magnitude_names or self.action.names if measured else ()

    @property
    def magnitude_indices(self) -> tuple[int, ...]:
        """Indices of the action numbers that make up the motion."""
        names = self.magnitude_names or self.action.names
        return tuple(self.action.names.index(name) for name in names)


@dataclass(frozen=True)
class ActionObjective:
    """From what a network gives to actions and to a loss.

    Attributes:
        config: Which numbers are the motion, its coordinates, and the options of bins and noise.
        name: In `vla_ros.registry.OBJECTIVES`.
        tanh: Whether a regression's raw numbers are bounded to (−1, 1).
        magnitude_weighting: Multiply each step's loss by 1 + 2‖a‖ of its target's motion.
    """

    config: ActionObjectiveConfig
    name: str
    tanh: bool
    magnitude_weighting: bool

    @cached_property
    def rule(self) -> Any:
        """The thing of that name: the error of a regression, or an object with the methods of its form."""
        thing: Any = OBJECTIVES[self.name]
        return thing if self.form == "regression" else thing.from_options(self.config)

    @property
    def form(self) -> str:
        """``regression``, ``classes`` or ``denoising``."""
        thing = OBJECTIVES[self.name]
        if not isinstance(thing, type):
            return "regression"
        return "denoising" if hasattr(thing, "sample") else "classes"

    def check(self) -> None:
        """Refuse what does not go together.

        Raises:
            ConfigError: Says why.
        """
        _ = self.rule
        if self.config.coordinates == CARTESIAN:
            return
        where = f"coordinates '{self.config.coordinates}' are regressed"
        if self.is_binned:
            raise ConfigError(f"{where}; bins of the objective '{self.name}' are cartesian.")
        if self.is_denoising:
            raise ConfigError(f"{where}; the objective '{self.name}' takes noise from cartesian numbers.")
        if not self.tanh:
            raise ConfigError(f"coordinates '{self.config.coordinates}' scales bounded numbers; set tanh to true.")

    @property
    def is_binned(self) -> bool:
        """Whether raw numbers are logits."""
        return self.form == "classes"

    @property
    def is_denoising(self) -> bool:
        """Whether the network takes noise away."""
        return self.form == "denoising"

    @property
    def bounded(self) -> bool:
        """Whether actions lie in [−1, 1]."""
        if self.is_denoising:
            return self.rule.clip is not None and self.rule.clip <= 1.0
        return self.tanh or self.is_binned

    @property
    def raw_shape(self) -> tuple[int, ...]:
        """Axes of what the network gives for one step: A, or A and V."""
        return (self.config.action_dim, self.config.bins) if self.is_binned else (self.config.action_dim,)

    @property
    def summary(self) -> str:
        """The loss in a few words."""
        spherical = " of length and direction" if self.config.coordinates != CARTESIAN else ""
        bins = f" over {self.config.bins} bins" if self.is_binned else ""
        return f"{self.name}{bins}{spherical}{', each step times 1 + 2‖a‖' if self.magnitude_weighting else ''}"

    def train(self, predict: Predict, batch: Batch, generator: torch.Generator | None = None) -> LossOutput:
        """Return the loss of a batch, whatever the form of the objective.

        Args:
            predict: Asks the network about this batch.
            batch: With ``action`` and ``action_is_pad``.
            generator: Source of noise.
        """
        if not self.is_denoising:
            return self.loss_of(predict(None), batch)
        action_BHA, is_pad_BH, count = batch["action"], batch["action_is_pad"], self.config.flow_samples
        dim_is_pad_BA = batch.get(ACTION_DIM_IS_PAD)
        lacking = {} if dim_is_pad_BA is None else {"dim_is_pad_BA": dim_is_pad_BA}
        draw = self.rule.draw(action_BHA, is_pad_BH, count, generator, **lacking)
        is_pad = of_numbers(padding_of_numbers(is_pad_BH, dim_is_pad_BA))
        weight_BH1 = self.weight(action_BHA.masked_fill(is_pad, 0.0))
        if weight_BH1 is not None:
            weight_BH1 = weight_BH1.repeat_interleave(count, dim=0)
        loss = draw.loss(predict(Noised(draw.noised_BHA, draw.time_B, draw.is_pad_BH)), weight_BH1)
        return LossOutput(loss, {self.rule.term: loss.detach()})

    def sample(self, predict: Predict, request: Request) -> Tensor:
        """Return normalised actions, float [B, H, A], whatever the form of the objective.

        Args:
            predict: Asks the network about an observation.
            request: Source of noise, committed actions beside which noise is taken away, and numbers that a sample's
                robot lacks, which are 0 at every step, as in training.
        """
        if not self.is_denoising:
            return self.actions(predict(None))
        prefix_BPA, dim_is_pad_BA = request.prefix_BPA, request.dim_is_pad_BA
        shape = (len(prefix_BPA), self.config.action_horizon, self.config.action_dim)

        def there(values_BHA: Tensor) -> Tensor:
            return values_BHA if dim_is_pad_BA is None else values_BHA.masked_fill(dim_is_pad_BA[:, None], 0.0)

        def denoise(x_BHA: Tensor, time_B: Tensor) -> Tensor:
            return there(predict(Noised(x_BHA, time_B)))

        noise_BHA = there(sample_noise(shape, request.generator, prefix_BPA.device))
        actions_BHA: Tensor = self.rule.sample(denoise, noise_BHA, prefix_BPA)
        return actions_BHA

    def actions(self, raw: Tensor) -> Tensor:
        """Return normalised actions, float [B, H, A], of a regression's numbers or of logits."""
        if self.is_binned:
            decoded_BHA: Tensor = self.rule.actions(raw)
            return decoded_BHA
        bounded_BHA = self._bounded(raw)
        if self._coordinates is None:
            return bounded_BHA
        return self._with_motion(bounded_BHA, self._coordinates.motion(bounded_BHA[..., self._motion]))

    def loss_of(self, raw: Tensor, batch: Batch) -> LossOutput:
        """Return the loss of a regression's numbers or of logits; ``terms`` has the mean absolute error, ``l1``."""
        is_pad_BH = batch["action_is_pad"]
        # what stands in padding may be anything, even NaN
        if ACTION_DIM_IS_PAD in batch:
            is_pad_BH = padding_of_numbers(is_pad_BH, batch[ACTION_DIM_IS_PAD])
        target_BHA = batch["action"].masked_fill(of_numbers(is_pad_BH), 0.0)
        weight_BH1 = self.weight(target_BHA)
        if self.is_binned:
            loss = self.rule.loss(raw, target_BHA, is_pad_BH, weight_BH1)
        else:
            loss = self.rule(*self._compared(raw, target_BHA), is_pad_BH, weight_BH1=weight_BH1)
        if not isinstance(loss, Tensor) or loss.ndim:
            got = f"shape {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ConfigError(f"objective '{self.name}' returned {got}; expected a loss, a tensor of no axes.")
        return LossOutput(loss, {"l1": l1(self.actions(raw.detach()), target_BHA, is_pad_BH)})

    def weight(self, target_BHA: Tensor) -> Tensor | None:
        """Return what each step's loss is multiplied by, float [B, H, 1]; None weighs all alike."""
        return magnitude_weight(target_BHA[..., self._motion]) if self.magnitude_weighting else None

    def _compared(self, raw_BHA: Tensor, target_BHA: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the loss measures between; a motion in other coordinates is given as its error, beside 0."""
        bounded_BHA = self._bounded(raw_BHA)
        if self._coordinates is None:
            return bounded_BHA, target_BHA
        error_BH3 = self._coordinates.error(bounded_BHA[..., self._motion], target_BHA[..., self._motion])
        return self._with_motion(bounded_BHA, error_BH3), self._with_motion(target_BHA, torch.zeros_like(error_BH3))

    def _bounded(self, raw_BHA: Tensor) -> Tensor:
        # in float32 under autocast too: angles of half precision are a degree off
        return raw_BHA.float().tanh() if self.tanh else raw_BHA.float()

    def _with_motion(self, values_BHA: Tensor, motion_BH3: Tensor) -> Tensor:
        replaced_BHA = values_BHA.clone()
        replaced_BHA[..., self._motion] = motion_BH3
        return replaced_BHA

    @cached_property
    def _coordinates(self) -> Any:
        if self.config.coordinates == CARTESIAN:
            return None
        return COORDINATES[self.config.coordinates].from_options(self.config)

    @property
    def _motion(self) -> list[int]:
        return list(self.config.magnitude_indices)


def repeated(values: Tensor, noised: Noised) -> Tensor:
    """Return a batch's values for noisy chunks that ask about each sample several times in a row."""
    count = len(noised.noised_BHA) // len(values)
    return values if count == 1 else values.repeat_interleave(count, dim=0)
