"""Instructions of a batch → tensors, each distinct instruction computed once. Knows no architecture and no file.

What was computed in training is saved with the checkpoint: a robot that is told what its policy was trained on needs
no language model, and gets bit for bit what training saw.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.processors.saved import SavedNumbers
from vla_ros.processors.step import Batch, Features, ProcessorStep
from vla_ros.processors.text_models import Characters, TextModel, build_text_model
from vla_ros.processors.text_spec import TextSpec
from vla_ros.schema import Section, read_dataclass, to_plain

PREFIX = "text/"
_SHOWN = 120  # characters
SAVED = 1000
"""Instructions saved with a checkpoint, the first ones met; others are computed again where they are needed."""
KEPT = 2 * SAVED
"""Instructions known at a time, saved ones among them; whoever sends a new one each time makes the oldest others go."""


class TextProcessor:
    """Gives a policy the instructions as it asked for them.

    Args:
        spec: What the policy asked for. A tokenizer or language model is loaded when the first instruction comes that
            is not known.

    Attributes:
        spec: As given.
        computed: Instructions computed by this object, saved ones not counted.
    """

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.computed = 0
        self._model: TextModel | None = None
        self._may_download = True
        self._rows: dict[str, int] = {}
        self._tables: dict[str, Tensor] = {}  # batch key → [known instructions, ...]

    def __call__(self, instructions: Sequence[str], device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """Return batch key → tensor with a leading axis B, as `TextSpec` describes them.

        Raises:
            ObservationError: Something is no string.
            ConfigError: A package or a model is missing, its sizes are not the spec's, or an instruction is longer
                than the policy's text.
        """
        for instruction in instructions:
            if not isinstance(instruction, str):
                raise ObservationError(f"'task' must hold strings, got {instruction!r}.")
        needed = dict.fromkeys(instructions)
        new = [text for text in needed if text not in self._rows]
        if len(self._rows) + len(new) > KEPT:
            self._forget(len(self._rows) + len(new) - KEPT, needed)
        self._learn(new)
        index_B = torch.tensor([self._rows[text] for text in instructions])
        return {key: table[index_B].to(device) for key, table in self._tables.items()}

    @property
    def instructions(self) -> tuple[str, ...]:
        """Those known, in the order in which they came."""
        return tuple(self._rows)

    @property
    def tables(self) -> tuple[str, ...]:
        """Batch keys of what the known instructions became."""
        return tuple(self._tables)

    def _learn(self, instructions: Sequence[str]) -> None:
        if not instructions:
            return
        # ordinary tensors, also when the first to ask is in inference mode: the next may be training
        with torch.inference_mode(False), torch.no_grad():
            model = self._loaded()
            for instruction in instructions:
                _check_length(model, instruction)
            rows = [model.embed(instruction) for instruction in instructions]
            for key in rows[0]:
                new = torch.stack([row[key] for row in rows])
                self._tables[key] = torch.cat([self._tables[key], new]) if key in self._tables else new
        self._rows.update({text: len(self._rows) + number for number, text in enumerate(instructions)})
        self.computed += len(instructions)

    def _forget(self, excess: int, needed: Mapping[str, Any]) -> None:
        """Drop at least so many of the oldest instructions that are neither saved nor needed now, as far as any are."""
        free = [text for text, row in self._rows.items() if row >= SAVED and text not in needed]
        # more than asked for: making room copies the tables
        dropped = set(free[: max(excess, SAVED // 2)])
        kept = [text for text in self._rows if text not in dropped]
        rows = torch.tensor([self._rows[text] for text in kept], dtype=torch.long)
        self._tables = {key: table[rows] for key, table in self._tables.items()}
        self._rows = {text: row for row, text in enumerate(kept)}

    def check_lengths(self, instructions: Iterable[str]) -> None:
        """Refuse instructions of which the policy would not read the end; others could then be the same to it.

        Raises:
            ConfigError: Names the first one, its length and the policy's.
        """
        for instruction in instructions:
            if instruction not in self._rows:
                _check_length(self._loaded(), instruction)

    def _loaded(self) -> TextModel:
        if self._model is None:
            self._model = build_text_model(self.spec, may_download=self._may_download)
        return self._model

    def to_dict(self) -> dict[str, Any]:
        """Return the spec and the saved instructions, as plain data for YAML."""
        return {"spec": to_plain(self.spec), "instructions": list(self.instructions[:SAVED])}

    def tensors(self) -> dict[str, Tensor]:
        """Return what the saved instructions became: ``text/<batch key>``, [instructions, ...]."""
        return {f"{PREFIX}{key}": table[:SAVED].contiguous() for key, table in self._tables.items()}

    @classmethod
    def from_dict(cls, section: Section, saved: SavedNumbers) -> "TextProcessor":
        """Rebuild what was saved. What is needed for other instructions is looked for on this machine alone.

        Raises:
            CheckpointError: Numbers are missing, not as many as the instructions, or no tokens or vectors of the spec.
        """
        self = cls(read_dataclass(section.section("spec"), TextSpec))
        instructions = section.items("instructions", str)
        section.finish()
        self._may_download = False
        if len(set(instructions)) != len(instructions):
            raise section.fail("instructions", "hold one twice; the checkpoint is not whole.")
        if instructions:
            self._tables = saved.text(self.spec, len(instructions))
        self._rows = {text: row for row, text in enumerate(instructions)}
        return self


class TextStep(ProcessorStep):
    """Adds to a batch what its instructions become."""

    name: ClassVar[str] = "text"
    options_class: ClassVar[type] = TextSpec

    def __init__(self, options: TextSpec, before: Features) -> None:
        super().__init__(options, before)
        self.text = TextProcessor(options)
        self._device = torch.device("cpu")

    @classmethod
    def of(cls, text: TextProcessor, before: Features, device: torch.device | str) -> "TextStep":
        """Make a step of what knows its instructions already."""
        self = cls(text.spec, before)
        self.text = text
        self.to(device)
        return self

    @property
    def changes(self) -> tuple[str, ...]:
        """No feature."""
        return ()

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the batch with the tensors that `TextSpec` describes, where it has instructions."""
        return {**batch, **self.text(batch["task"], self._device)} if "task" in batch else dict(batch)

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up nothing: the instructions are saved by `TextProcessor`."""

    def to(self, device: torch.device | str) -> None:
        """Say where tensors are wanted; those known stay where they are."""
        self._device = torch.device(device)

    def summary(self) -> str:
        """Name the kind of text."""
        return f"task as {self.text.spec.kind}"


def _check_length(model: TextModel, instruction: str) -> None:
    if model.longest is None:
        return
    length = model.measure(instruction)
    if length > model.longest:
        unit = "characters" if isinstance(model, Characters) else "tokens"
        shown = instruction if len(instruction) <= _SHOWN else f"{instruction[:_SHOWN]}…"
        raise ConfigError(
            f"text: the instruction {shown!r} has {length} {unit}, of which this policy reads {model.longest}: its end "
            f"would make no difference. Shorten it, or train a policy with text.length of {length} or more."
        )
