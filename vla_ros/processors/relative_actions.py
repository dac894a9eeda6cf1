"""Poses to go to, as seen from where the end effector is. Needs the measured pose, and no robot model.

An action that says where to go in the robot's base is another one for the same motion elsewhere. Seen from the end
effector at the moment of the observation it is the same, so that what is learnt at one place holds at another (relative
trajectories of UMI: Chi et al., RSS 2024, arXiv:2402.10329).

Every step of a chunk is relative to the same, newest observation: ``inverse(T_observed) · T_action`` in SE(3).
Differences of components would be wrong: rotations do not add, and positions differ along the base's axes, not the
hand's.

Axis legend: B batch, H action_horizon, A action_dim, S numbers of the pose's feature.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.data_types.rotations import inverse as inverse_quaternion
from vla_ros.data_types.rotations import matrix_of_quaternion, multiply
from vla_ros.processors.poses import RotationForm, check_width, indices_of, known_rotations, rotations
from vla_ros.processors.step import Batch, Features, ProcessorStep
from vla_ros.schema import About, Checked, Only

QUATERNION: RotationForm = "quaternion"


@dataclass(frozen=True, kw_only=True)
class PoseNames(Checked):
    """Which numbers of a vector are a pose of the end effector."""

    position: Annotated[tuple[str, str, str], About("Names of x, y and z.", "m")]
    rotation: Annotated[
        tuple[str, ...], About("Names of the rotation's numbers; empty where only the position is given.")
    ] = ()
    form: Annotated[
        RotationForm,
        About("Form of the rotation.", only=Only("with rotation", lambda names: names.rotation)),
    ] = QUATERNION

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rotation:
            check_width(self.rotation, self.form, "rotation")


@dataclass(frozen=True, kw_only=True)
class RelativeActionsOptions(Checked):
    """Options of `RelativeActions`. Action and measured pose must be in one frame, the robot's base."""

    action: Annotated[PoseNames, About("The pose among the action's numbers; other numbers stay as they are.")]
    key: Annotated[str, About("Input that holds the measured pose; a vector that the policy sees.")] = (
        "observation.state"
    )
    measured: Annotated[PoseNames, About("The pose among the numbers of that input.")]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.action.rotation and not self.measured.rotation:
            raise ConfigError("measured.rotation: the action has a rotation, so the measured one is needed too.")


class RelativeActions(ProcessorStep):
    """Makes actions that are poses in the base relative to the end effector's pose at the observation."""

    name: ClassVar[str] = "relative_actions"
    options_class: ClassVar[type] = RelativeActionsOptions
    needs_units: ClassVar[bool] = True
    makes_motion: ClassVar[bool] = True
    options: RelativeActionsOptions

    def features_after(self) -> Features:
        """Return the features, unchanged in shape and names; says where in them the poses are."""
        key, inputs = self.options.key, self.before.inputs
        if key not in inputs or inputs[key].kind != "vector":
            vectors = ", ".join(name for name, spec in inputs.items() if spec.kind == "vector") or "none"
            raise ConfigError(f"key: '{key}' is no vector that the policy sees: {vectors}; add it to inputs.")
        action, measured = self.before.action.names, inputs[key].names
        self._action_position = indices_of(self.options.action.position, action, "action.position")
        self._action_rotation = indices_of(self.options.action.rotation, action, "action.rotation")
        self._position = indices_of(self.options.measured.position, measured, "measured.position")
        self._rotation = indices_of(self.options.measured.rotation, measured, "measured.rotation")
        return self.before

    @property
    def changes(self) -> tuple[str, ...]:
        """The action."""
        return (self.before.action.key,)

    @property
    def reads(self) -> tuple[str, ...]:
        """The measured pose."""
        return (self.options.key,)

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the batch with actions relative to the newest frame's pose.

        Raises:
            ObservationError: A measured or recorded rotation is none.
            ConfigError: The policy is trained on chunks of older frames too, which are relative to other poses.
        """
        key = self.before.action.key
        if "past_action" in batch:
            raise ConfigError(
                f"processor '{self.name}': the policy trains on every frame of a window, but actions are relative to "
                "the newest one's pose; use a policy without memory, or absolute actions."
            )
        if key not in batch:
            return dict(batch)
        is_pad_BH = batch["action_is_pad"].bool() if "action_is_pad" in batch else torch.zeros(batch[key].shape[:2])
        return {**batch, key: self._moved(batch[key], batch, is_pad_BH.bool(), to_hand=True)}

    def inverse(self, actions_BHA: Tensor, batch: Batch) -> Tensor:
        """Return predicted actions as poses in the base; NaN where a rotation is predicted that is none.

        Raises:
            ObservationError: The measured rotation is none.
        """
        nothing_BH = torch.zeros(actions_BHA.shape[:2], dtype=torch.bool, device=actions_BHA.device)
        return self._moved(actions_BHA, batch, nothing_BH, to_hand=False)

    def summary(self) -> str:
        """Say relative to what."""
        kind = "SE(3)" if self._action_rotation else "position"
        return f"action ({kind}) relative to the pose in {self.options.key}"

    def _moved(self, actions_BHA: Tensor, batch: Batch, is_pad_BH: Tensor, *, to_hand: bool) -> Tensor:
        observed_BS = batch[self.options.key][:, -1].to(actions_BHA.device)
        origin_B13 = observed_BS[:, None, self._position].double()
        turn_B14 = self._observed_turn(observed_BS)[:, None]
        matrix_B133 = torch.from_numpy(matrix_of_quaternion(turn_B14.cpu().numpy())).to(actions_BHA.device)
        position_BH3 = actions_BHA[..., self._action_position].double()
        if to_hand:  # Rᵀ (p − o); a row vector times R is Rᵀ times the column
            position_BH3 = ((position_BH3 - origin_B13)[..., None, :] @ matrix_B133)[..., 0, :]
        else:
            position_BH3 = (matrix_B133 @ position_BH3[..., None])[..., 0] + origin_B13
        moved_BHA = actions_BHA.clone()
        moved_BHA[..., self._action_position] = position_BH3.to(moved_BHA.dtype)
        if self._action_rotation:
            moved_BHA[..., self._action_rotation] = self._turned(actions_BHA, turn_B14, is_pad_BH, to_hand=to_hand)
        return moved_BHA

    def _turned(self, actions_BHA: Tensor, turn_B14: Tensor, is_pad_BH: Tensor, *, to_hand: bool) -> Tensor:
        """Return the rotations of actions from the other side of the observed one, in the form that they have."""
        form, rotation_BHW = self.options.action.form, actions_BHA[..., self._action_rotation]
        quaternion_BH4 = rotations(rotation_BHW, form, QUATERNION)
        recorded_BH4 = quaternion_BH4[~is_pad_BH]  # anything may stand in padding
        if to_hand and not bool(recorded_BH4.isfinite().all()):
            place = f"'action' ({', '.join(self.options.action.rotation)})"
            known_rotations(rotation_BHW[~is_pad_BH], form, QUATERNION, place)
        by_B14 = turn_B14.cpu().numpy()
        turned = multiply(inverse_quaternion(by_B14) if to_hand else by_B14, quaternion_BH4.cpu().numpy())
        return rotations(torch.from_numpy(turned), QUATERNION, form).to(actions_BHA)

    def _observed_turn(self, observed_BS: Tensor) -> Tensor:
        """Return unit quaternions float64 [B, 4] of the measured orientation, no rotation where none is measured."""
        place = f"'{self.options.key}'"
        if not bool(observed_BS[:, self._position].isfinite().all()):
            raise ObservationError(f"{place}: the measured position is not finite.")
        if not self._rotation:
            nothing = observed_BS.new_tensor((0.0, 0.0, 0.0, 1.0), dtype=torch.float64)
            return nothing.expand(len(observed_BS), 4)
        names = ", ".join(self.options.measured.rotation)
        rotation_BW = observed_BS[:, self._rotation]
        return known_rotations(rotation_BW, self.options.measured.form, QUATERNION, f"{place} ({names})")
