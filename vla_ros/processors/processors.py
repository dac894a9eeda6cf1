"""All maps of one policy: raw batch → normalised tensors, predicted actions → the contract's units. No files.

Axis legend: B batch, T n_obs_steps, H action_horizon, A action_dim, h, w pixels.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

from vla_ros.contract import GOAL_IMAGE, FeatureSpec
from vla_ros.data_types import CheckpointError, ObservationError, nearest_name
from vla_ros.processors.affine import DEGENERATE, Affine, affine_from_statistics
from vla_ros.processors.options import DEFAULT_ACTION, ProcessorOptions
from vla_ros.processors.saved import STATISTICS_KEPT, SavedNumbers, check_feature, mapped_names
from vla_ros.processors.slots import Slots
from vla_ros.processors.text import TextProcessor
from vla_ros.processors.text_spec import TextSpec
from vla_ros.schema import Section, read_dataclass, to_plain

Statistics = Mapping[str, Mapping[str, ArrayLike]]
"""Feature key → statistic name → values, as datasets keep them; images in 0–1."""

PASSED = ("task", "is_pad", "is_known", "action_is_pad")
MAY_BE_ABSENT = (GOAL_IMAGE,)
"""Inputs whose absence is the policy's to judge: told what to do in words, a robot has no picture of it."""
BYTE = 255.0


class Processors:
    """The processors of one policy. New data comes back; what is passed in stays as it is.

    Attributes:
        inputs: Features as the robot and the dataset have them.
        action: The action feature.
        options: How each is normalised.
        statistics: What the maps were built from: key → name → float64 tensor.
        constant: Key → names of numbers that never varied in the data and are only centred.
        text: Turns instructions into tensors; None when the policy reads none.
        slots: The robot's place in a policy of several robots; None for a policy of this one alone.
    """

    def __init__(
        self,
        inputs: Mapping[str, FeatureSpec],
        action: FeatureSpec,
        options: ProcessorOptions,
        statistics: Statistics,
    ) -> None:
        """Build the maps from a dataset's statistics.

        Raises:
            ConfigError: A mode is unknown, or a statistic that it needs is absent or not finite.
        """
        options.check_keys({*inputs, action.key})
        options = replace(options, action=options.action or DEFAULT_ACTION)
        self.inputs, self.action, self.options = dict(inputs), action, options
        self.statistics = {key: _kept(statistics.get(key, {})) for key in (*self.inputs, action.key)}
        self.constant: dict[str, tuple[str, ...]] = {}
        self.text: TextProcessor | None = None
        self.slots: Slots | None = None
        self._maps: dict[str, Affine] = {}
        for key, spec in (*self.inputs.items(), (action.key, action)):
            names, mode = mapped_names(spec), _mode(options, spec)
            together = options.indices_together(spec) if spec is action else ()
            self._maps[key], constant = affine_from_statistics(
                mode, (len(names),), statistics.get(key, {}), key, together
            )
            if constant.any():
                self.constant[key] = tuple(name for name, flat in zip(names, constant, strict=True) if flat)

    def use_text(self, spec: TextSpec | None) -> None:
        """Give the policy the instruction as it wants it; None gives it none."""
        self.text = None if spec is None else TextProcessor(spec)

    @property
    def text_spec(self) -> TextSpec | None:
        """How the instruction is given."""
        return None if self.text is None else self.text.spec

    @property
    def policy_action(self) -> FeatureSpec:
        """The action as the policy predicts it."""
        return self.action if self.slots is None else self.slots.action

    @property
    def policy_inputs(self) -> dict[str, FeatureSpec]:
        """The inputs as the policy gets them: images at their resized size, and all of a policy of several robots."""
        if self.slots is not None:
            return dict(self.slots.inputs)
        return self.options.resized(self.inputs)

    def observation(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Normalise a batch of observations.

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
        batch: dict[str, Any] = {}
        for key, spec in self.inputs.items():
            if key not in raw:
                continue
            values = self._tensor(key, raw[key], spec)
            batch[key] = self._image(key, values) if spec.kind == "image" else self._maps[key].forward(values.float())
        for key in PASSED:
            if key in raw:
                batch[key] = list(raw[key]) if key == "task" else torch.as_tensor(raw[key]).bool().to(self.device)
        if self.text is not None:
            batch.update(self.text(batch["task"], self.device))
        return batch if self.slots is None else self.slots.observation(batch, self.action.shape[0])

    def batch(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """Normalise a training batch: as `observation`, with ``action`` [B, H, A] and ``action_is_pad`` [B, H].

        ``past_action`` [B, T-1, A] is normalised as the action is, where it is there.
        """
        batch = self.observation(raw)
        for key in (self.action.key, "action_is_pad"):
            if key not in raw:
                raise ObservationError(f"The training batch lacks '{key}'; it has {', '.join(raw)}.")
        for key, source in (("action", self.action.key), ("past_action", "past_action")):
            if source in raw:
                normalised = self._maps[self.action.key].forward(self._tensor(source, raw[source], self.action).float())
                batch[key] = normalised if self.slots is None else self.slots.widened_action(normalised)
        return batch

    def actions(self, actions_BHA: Tensor) -> Tensor:
        """Return predicted actions in the contract's units, float32 [B, H, A] as they came.

        A number that never varied in the data is that constant: nothing was learnt of it.
        """
        actions_BHA = actions_BHA[..., : self.action.shape[0]]  # what a policy of several robots predicts beyond it
        affine, still_A = self._maps[self.action.key], self._still_action
        actions_BHA = affine.inverse(actions_BHA)
        if not still_A.any():
            return actions_BHA
        is_still_BHA = still_A.to(actions_BHA.device) & actions_BHA.isfinite()  # NaN says that the policy is broken
        return torch.where(is_still_BHA, self._still_values.to(actions_BHA.device), actions_BHA)

    def pictures(self, key: str, images_T3hw: Tensor) -> NDArray[np.uint8]:
        """Return images as they are seen, uint8 [T, h, w, 3], of normalised ones, float [T, 3, h, w]."""
        values = self._maps[key].inverse(images_T3hw.permute(0, 2, 3, 1).float()) * BYTE
        pictures: NDArray[np.uint8] = values.round().clamp(0, BYTE).byte().cpu().numpy()
        return pictures

    @property
    def device(self) -> torch.device:
        """Where results are."""
        return self._maps[self.action.key].offset.device

    def to(self, device: torch.device | str) -> "Processors":
        """Move the maps, and with them all results, to a device; returns itself."""
        self._maps = {key: affine.to(device) for key, affine in self._maps.items()}
        return self

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the numbers, as plain data for YAML."""
        content = {
            "inputs": to_plain(self.inputs),
            "action": to_plain(self.action),
            "options": to_plain(self.options),
            "constant": to_plain(self.constant),
        }
        if self.slots is not None:
            content["slots"] = self.slots.to_dict()
        return content if self.text is None else {**content, "text": self.text.to_dict()}

    def tensors(self) -> dict[str, Tensor]:
        """Return the numbers: ``map/KEY/offset``, ``map/KEY/scale``, ``statistics/KEY/NAME`` and ``text/KEY``."""
        tensors: dict[str, Tensor] = {} if self.text is None else self.text.tensors()
        for key, affine in self._maps.items():
            tensors[f"map/{key}/offset"] = affine.offset.cpu().contiguous()
            tensors[f"map/{key}/scale"] = affine.scale.cpu().contiguous()
        for key, values in self.statistics.items():
            tensors.update({f"statistics/{key}/{name}": value for name, value in values.items()})
        return tensors

    @classmethod
    def from_dict(
        cls,
        content: Any,
        tensors: Mapping[str, Tensor],
        source: str = "processors.yaml",
        numbers_source: str = "processors.safetensors",
    ) -> "Processors":
        """Rebuild saved processors; their maps are the saved numbers, not recomputed ones.

        Args:
            content: As `to_dict` made it.
            tensors: As `tensors` made them.
            source: Name of the file of `content`, for messages.
            numbers_source: Name of the file of `tensors`.

        Raises:
            CheckpointError: Something is missing, does not fit, or is a number that no training makes; names file and
                tensor.
        """
        top = Section(source, "", content, CheckpointError)
        self = cls.__new__(cls)
        nested = top.section("inputs")
        self.inputs = {key: read_dataclass(nested.section(key), FeatureSpec) for key in nested.content}
        self.action = read_dataclass(top.section("action"), FeatureSpec)
        self.options = read_dataclass(top.section("options"), ProcessorOptions)
        constant = top.section("constant", {})
        self.constant = {key: constant.items(key, str) for key in constant.content}
        saved = SavedNumbers(numbers_source, tensors)
        self.text = TextProcessor.from_dict(top.section("text"), saved) if "text" in top else None
        slots = top.section("slots") if "slots" in top else None
        self.slots = None if slots is None else Slots.from_dict(slots, self.inputs, self.action)
        for name in ("text", "slots"):
            top.raw(name, None)
        top.finish()
        self._maps, self.statistics = {}, {}
        for key, spec in (*self.inputs.items(), (self.action.key, self.action)):
            check_feature(spec, key, source)
            names, flat = mapped_names(spec), self.constant.get(key, ())
            self._maps[key] = saved.map(spec, names)
            self.statistics[key] = saved.statistics(spec, names, _mode(self.options, spec), flat)
        saved.refuse_surplus([*self.inputs, self.action.key], () if self.text is None else self.text.tables)
        return self

    @cached_property
    def _still_action(self) -> Tensor:
        """Which numbers of the action never varied, bool [A].

        One that varied outside its quantiles only, as a gripper that rarely opens, did.
        """
        constant, kept = self.constant.get(self.action.key, ()), self.statistics[self.action.key]
        still_A = torch.tensor([name in constant for name in self.action.names])
        if {"min", "max"} <= kept.keys():
            low_A, high_A = kept["min"].flatten(), kept["max"].flatten()
            still_A &= high_A - low_A <= DEGENERATE * torch.maximum(low_A.abs(), torch.ones(()))
        return still_A

    @cached_property
    def _still_values(self) -> Tensor:
        """What numbers of the action that never varied are, float32 [A]; of others nothing is asked."""
        values_A = self._maps[self.action.key].offset.cpu()
        together = list(self.options.indices_together(self.action))
        if together:  # those are never centred
            kept = self.statistics[self.action.key]
            values_A = values_A.clone()
            values_A[together] = kept["min"].flatten()[together].float()
        return values_A

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
        return tensor.to(self.device)

    def _image(self, key: str, image_BThw3: Tensor) -> Tensor:
        image_BThw3 = image_BThw3.float()
        if self.options.image_size is not None:
            image_BThw3 = self._resized(image_BThw3, self.options.image_size)
        # (x / 255 - offset) / scale as one multiplication and one addition, over rows of w·3 numbers: images are most
        # of the work here, and a loop over three channels innermost would be several times slower.
        affine, width = self._maps[key], image_BThw3.shape[3]
        factor_W = (1.0 / (BYTE * affine.scale)).repeat(width)
        shift_W = (affine.offset / affine.scale).repeat(width)
        normalised_BThw3 = image_BThw3.flatten(3).mul(factor_W).sub_(shift_W).view(image_BThw3.shape)
        # A permuted view: convolutions get channels-last memory, which they prefer, without a copy.
        return normalised_BThw3.permute(0, 1, 4, 2, 3)

    @staticmethod
    def _resized(image_BThw3: Tensor, size: tuple[int, int]) -> Tensor:
        image_N3hw = image_BThw3.flatten(0, 1).permute(0, 3, 1, 2)
        resized_N3hw = functional.interpolate(image_N3hw, size, mode="bilinear", antialias=True)
        return resized_N3hw.permute(0, 2, 3, 1).reshape(*image_BThw3.shape[:2], *size, 3)


def _mode(options: ProcessorOptions, spec: FeatureSpec) -> str:
    mode = options.mode(spec)
    # the range of an image is that of its format, not of the images seen
    return "unit_range" if spec.kind == "image" and mode == "min_max" else mode


def _kept(statistics: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
    return {
        name: torch.from_numpy(np.array(statistics[name], dtype=np.float64, order="C", copy=True))
        for name in STATISTICS_KEPT
        if name in statistics
    }
