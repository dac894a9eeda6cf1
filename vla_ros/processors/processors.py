"""The steps of one policy as one list: raw batch → what the policy sees, its actions → the robot's units. No files.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, h, w pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vla_ros.contract import GOAL_IMAGE, FeatureSpec
from vla_ros.data_types import CheckpointError, ConfigError, ObservationError, nearest_name
from vla_ros.processors.chain import NORMALISE, RESIZE, TEXT, build_steps, choices_of, normaliser_of
from vla_ros.processors.fitting import FitData, Statistics, Windows
from vla_ros.processors.normalise import BYTE, kept
from vla_ros.processors.options import ProcessorOptions
from vla_ros.processors.saved import SavedNumbers, check_feature, mapped_names
from vla_ros.processors.slots import Slots
from vla_ros.processors.step import ProcessorStep, StepChoice
from vla_ros.processors.text import TextProcessor, TextStep
from vla_ros.processors.text_spec import TextSpec
from vla_ros.schema import Section, read_dataclass, to_plain

PASSED = ("task", "is_pad", "is_known", "action_is_pad")
MAY_BE_ABSENT = (GOAL_IMAGE,)
"""Inputs that may be missing; the policy decides. A robot that is given its goal in words has no image of it."""


class Processors:
    """The processors of one policy. New data comes back; what is passed in stays as it is.

    Attributes:
        inputs: Features as the robot and the dataset have them.
        action: The action as the robot has it.
        steps: What is done, in order; the last one is ``text`` where the policy reads an instruction.
        statistics: Of the features as the robot has them: key → name → float64 tensor.
        slots: The robot's place in a policy of several robots; None for a policy of this one alone.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        action: FeatureSpec,
        options: ProcessorOptions,
        statistics: Statistics,
        *,
        steps: Sequence[StepChoice] = (),
        windows: Windows | None = None,
    ) -> None:
        """Build the steps and fit each on the training data as they are before it.

        Args:
            inputs: As the attribute.
            action: As the attribute.
            options: How features are resized and normalised.
            statistics: The dataset's.
            steps: Other steps, in order; see `vla_ros.processors.chain.build_steps`.
            windows: The training windows; needed where a step changes what a later one is fitted on.

        Raises:
            ConfigError: A step or mode is unknown or contradicts the features, or a statistic that it needs is absent
                or not finite.
        """
        self._set(inputs, action, build_steps(steps, options, inputs, action))
        self.statistics: dict[str, dict[str, Tensor]] = {
            key: kept(statistics.get(key, {})) for key in (*self.inputs, action.key)
        }
        data = FitData(self.steps[0].before, statistics, windows)
        for step in self.steps:
            step.fit(data)
            data = data.after(step)

    def _set(self, inputs: Mapping[str, FeatureSpec], action: FeatureSpec, steps: tuple[ProcessorStep, ...]) -> None:
        self.inputs, self.action, self.steps = dict(inputs), action, steps
        self.slots: Slots | None = None
        self._normalise = normaliser_of(steps)

    def use_text(self, spec: TextSpec | None) -> None:
        """Give the policy the instruction as it wants it; None gives it none."""
        self._use(None if spec is None else TextProcessor(spec))

    def share_text_of(self, other: "Processors") -> None:
        """Take the instructions of another robot's processors, and what they became."""
        self._use(other.text)

    def _use(self, text: TextProcessor | None) -> None:
        steps = tuple(step for step in self.steps if not isinstance(step, TextStep))
        self.steps = steps if text is None else (*steps, TextStep.of(text, steps[-1].after, self.device))

    @property
    def options(self) -> ProcessorOptions:
        """How features are normalised."""
        return self._normalise.options

    @property
    def constant(self) -> dict[str, tuple[str, ...]]:
        """Key → names of numbers, as they are when normalised, that never varied in the data and are only centred."""
        return self._normalise.constant

    @property
    def text(self) -> TextProcessor | None:
        """Turns instructions into tensors; None when the policy reads none."""
        last = self.steps[-1]
        return last.text if isinstance(last, TextStep) else None

    @property
    def text_spec(self) -> TextSpec | None:
        """How the instruction is given."""
        return None if self.text is None else self.text.spec

    @property
    def policy_inputs(self) -> dict[str, FeatureSpec]:
        """The inputs as the policy gets them: after all steps, and all of a policy of several robots."""
        return dict(self.steps[-1].after.inputs if self.slots is None else self.slots.inputs)

    @property
    def policy_action(self) -> FeatureSpec:
        """The action as the policy predicts it."""
        return self.steps[-1].after.action if self.slots is None else self.slots.action

    @property
    def reads(self) -> tuple[str, ...]:
        """Keys of the inputs that turning predicted actions back needs."""
        return tuple(dict.fromkeys(key for step in self.steps for key in step.reads))

    def observation(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Process a batch of observations.

        Args:
            raw: Feature key → array or tensor: images uint8 [B, T, h, w, 3]; vectors [B, T, S]; windows
                [B, T, K, F]; points [B, T, N, F]. ``task`` (B strings), ``is_pad`` and ``is_known`` bool [B, T]
                pass through; features that are no input of this policy are left out. ``goal.image`` may be absent.

        Returns:
            What `vla_ros.policies.base` describes, on the processors' device.

        Raises:
            ObservationError: An input is missing, of another shape, or an image is not uint8.
            ConfigError: The instruction needs a language model that is not there.
        """
        needed = [key for key in self.inputs if key not in MAY_BE_ABSENT]
        if self.text is not None:
            needed.append("task")
        missing = [key for key in needed if key not in raw]
        if missing:
            hint = nearest_name(missing[0], raw)
            raise ObservationError(f"The observation lacks {', '.join(missing)}; it has {', '.join(raw)}.{hint}")
        batch: dict[str, Any] = {
            key: self._tensor(key, raw[key], spec) for key, spec in self.inputs.items() if key in raw
        }
        for key in PASSED:
            if key in raw:
                batch[key] = list(raw[key]) if key == "task" else torch.as_tensor(raw[key]).bool().to(self.device)
        batch = self._forward(batch)
        return batch if self.slots is None else self.slots.observation(batch, self._action_dim)

    def batch(self, raw: Mapping[str, Any], unaugmented: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Process a training batch: as `observation`, with ``action`` [B, H, A] and ``action_is_pad`` [B, H].

        ``past_action`` [B, T-1, A] is processed as the action is, where it is there.

        Args:
            raw: As of `observation`, with the action.
            unaugmented: The batch before its inputs were changed at random; what an action is relative to is taken
                from it.
        """
        batch = self.observation(raw)
        for key in (self.action.key, "action_is_pad"):
            if key not in raw:
                raise ObservationError(f"The training batch lacks '{key}'; it has {', '.join(raw)}.")
        actions = self._measured(raw if unaugmented is None else unaugmented)
        actions["action_is_pad"] = batch["action_is_pad"]
        for key in (self.action.key, "past_action"):
            if key in raw:
                actions[key] = self._tensor(key, raw[key], self.action)
        processed = self._forward(actions)
        for key, source in (("action", self.action.key), ("past_action", "past_action")):
            if source in raw:
                own = processed[source]
                batch[key] = own if self.slots is None else self.slots.widened_action(own)
        return batch

    def actions(self, actions_BHA: Tensor, raw: Mapping[str, Any] | None = None) -> Tensor:
        """Return predicted actions in the contract's units, float32 [B, H, A].

        A number that never varied in the data is that constant: nothing was learnt of it.

        Args:
            actions_BHA: What the policy predicted, in its space.
            raw: The observation that it predicted from, as `observation` took it; needed where there are `reads`.

        Raises:
            ValueError: It is needed and not given.
            ObservationError: What is read of it is missing or cannot be used.
        """
        actions_BHA = actions_BHA[..., : self._action_dim]  # what a policy of several robots predicts beyond it
        reads = self.reads
        if reads and raw is None:
            raise ValueError(f"the observation is needed to turn these actions back: {', '.join(reads)}")
        batch: dict[str, Any] = {} if raw is None else self._measured(raw)
        befores = []
        for step in self.steps:
            befores.append(batch)
            batch = step.forward(batch) if reads else batch
        for step, before in zip(reversed(self.steps), reversed(befores), strict=True):
            actions_BHA = step.inverse(actions_BHA, before)
        return actions_BHA

    def pictures(self, key: str, images_T3hw: Tensor) -> NDArray[np.uint8]:
        """Return images as they are seen, uint8 [T, h, w, 3], of normalised ones, float [T, 3, h, w]."""
        values = normaliser_of(self.steps).maps[key].inverse(images_T3hw.permute(0, 2, 3, 1).float()) * BYTE
        pictures: NDArray[np.uint8] = values.round().clamp(0, BYTE).byte().cpu().numpy()
        return pictures

    @property
    def device(self) -> torch.device:
        """Where results are."""
        return self._normalise.maps[self.action.key].offset.device

    def to(self, device: torch.device | str) -> "Processors":
        """Move the steps, and with them all results, to a device; returns itself."""
        for step in self.steps:
            step.to(device)
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the numbers, as plain data for YAML."""
        content = {
            "inputs": to_plain(self.inputs),
            "action": to_plain(self.action),
            "steps": choices_of(self.steps),
            "options": to_plain(self.options),
            "constant": to_plain(self.constant),
        }
        if self.slots is not None:
            content["slots"] = self.slots.to_dict()
        return content if self.text is None else {**content, "text": self.text.to_dict()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the numbers.

        ``map/KEY/offset`` and ``map/KEY/scale``; ``statistics/KEY/NAME`` of the features as the robot has them, and
        ``fitted/KEY/NAME`` of those that were changed before they were normalised; ``step/INDEX/NAME``, the state of
        other steps; ``text/KEY``.
        """
        tensors: dict[str, Tensor] = {} if self.text is None else self.text.tensors()
        for key, affine in self._normalise.maps.items():
            tensors[f"map/{key}/offset"] = affine.offset.cpu().contiguous()
            tensors[f"map/{key}/scale"] = affine.scale.cpu().contiguous()
        for key, values in self.statistics.items():
            tensors.update({f"statistics/{key}/{name}": value for name, value in values.items()})
        for key in self._changed:
            values = self._normalise.statistics[key]
            tensors.update({f"fitted/{key}/{name}": value for name, value in values.items()})
        for index, step in enumerate(self.steps):
            tensors.update({f"step/{index}/{name}": value.cpu().contiguous() for name, value in step.state().items()})
        return tensors

    @classmethod
    def from_dict(
        cls,
        content: Any,
        tensors: Mapping[str, Tensor],
        source: str = "processors.yaml",
        numbers_source: str = "processors.safetensors",
    ) -> "Processors":
        """Rebuild saved processors; their numbers are the saved ones, not recomputed ones.

        Args:
            content: As `to_dict` made it; an older one names no steps, and has those that every policy has.
            tensors: As `tensors` made them.
            source: Name of the file of `content`, for messages.
            numbers_source: Name of the file of `tensors`.

        Raises:
            CheckpointError: Something is missing, does not fit, or is a number that no training makes; names file and
                tensor.
        """
        top = Section(source, "", content, CheckpointError)
        nested = top.section("inputs")
        inputs = {key: read_dataclass(nested.section(key), FeatureSpec) for key in nested.content}
        action = read_dataclass(top.section("action"), FeatureSpec)
        for key, spec in (*inputs.items(), (action.key, action)):
            check_feature(spec, key, source)
        options = read_dataclass(top.section("options"), ProcessorOptions)
        flat = top.section("constant", {})
        constant = {key: flat.items(key, str) for key in flat.content}
        saved = SavedNumbers(numbers_source, tensors)
        text = TextProcessor.from_dict(top.section("text"), saved) if "text" in top else None
        slots = top.section("slots") if "slots" in top else None
        choices = [read_dataclass(at, StepChoice) for at in top.sections("steps")] if "steps" in top else []
        for name in ("text", "steps", "slots"):
            top.raw(name, None)
        top.finish()
        self = cls.__new__(cls)
        try:
            named = [choice for choice in choices if choice.name != TEXT]
            self._set(inputs, action, build_steps(named, options, inputs, action, f"{source}: steps"))
        except ConfigError as reason:
            raise CheckpointError(str(reason)) from reason
        self._load(saved, constant)
        after = self.steps[-1].after
        self.slots = None if slots is None else Slots.from_dict(slots, after.inputs, after.action)
        self._use(text)
        saved.refuse_surplus(self._tensor_names, () if text is None else text.tables)
        return self

    def _load(self, saved: SavedNumbers, constant: Mapping[str, tuple[str, ...]]) -> None:
        changed, self.statistics = self._changed, {}
        self._normalise.load(saved, constant, {key: "fitted" if key in changed else "statistics" for key in self._keys})
        for key, spec in (*self.inputs.items(), (self.action.key, self.action)):
            # behind changes, those of the robot's side are for people and for augmentation alone
            if key in changed:
                self.statistics[key] = saved.statistics(spec, mapped_names(spec), "identity", ())
            else:
                self.statistics[key] = self._normalise.statistics[key]
        for index, step in enumerate(self.steps):
            if step.name not in (RESIZE, NORMALISE):
                step.load_state(saved.state_of(index))

    @property
    def _action_dim(self) -> int:
        """How many numbers of the policy's action are this robot's."""
        return self.steps[-1].after.action.shape[0]

    @property
    def _keys(self) -> tuple[str, ...]:
        return (*self.inputs, self.action.key)

    @property
    def _changed(self) -> tuple[str, ...]:
        """Keys of the features that are not normalised as the robot has them."""
        before = self.steps[: self.steps.index(self._normalise)]
        return tuple(key for key in self._keys if any(key in step.changes for step in before))

    @property
    def _tensor_names(self) -> set[str]:
        """Names that `tensors` may hold, those of text left out."""
        return set(self.tensors()) - ({} if self.text is None else self.text.tensors()).keys()

    def _forward(self, batch: dict[str, Any]) -> dict[str, Any]:
        for step in self.steps:
            batch = step.forward(batch)
        return batch

    def _measured(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Return the inputs that steps read of an observation to change actions."""
        missing = [key for key in self.reads if key not in raw]
        if missing:
            raise ObservationError(f"The observation lacks {', '.join(missing)}, to which actions are relative.")
        return {key: self._tensor(key, raw[key], self.inputs[key]) for key in self.reads}

    def _tensor(self, key: str, value: Any, spec: FeatureSpec) -> Tensor:
        tensor = torch.as_tensor(value)
        if spec.kind == "image" and tensor.dtype != torch.uint8:
            raise ObservationError(
                f"'{key}' must be uint8 in 0–255, got {tensor.dtype}: an image scaled already would be scaled twice."
            )
        if tensor.ndim != len(spec.shape) + 2 or tuple(tensor.shape[2:]) != spec.shape:
            axes = "H" if spec.kind == "action" else "T"
            expected = ", ".join(["B", axes, *map(str, spec.shape)])
            raise ObservationError(f"'{key}' must be [{expected}], got {list(tensor.shape)}.")
        return tensor.to(self.device) if spec.kind == "image" else tensor.to(self.device).float()
