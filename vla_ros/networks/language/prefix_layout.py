"""What stands where in a language model's sequence, and who may attend to whom: one object for masks and positions.

A token attends to all blocks before its own; within a block, to all of it where its span is bidirectional, else to
itself and those before it.

Axis legend: B batch, L tokens, True in masks means "may attend" or "is there".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vla_ros.data_types import ConfigError
from vla_ros.networks.attention.context import block_causal_mask, token_positions


@dataclass(frozen=True)
class Span:
    """Tokens of one meaning, next to each other.

    Attributes:
        name: What they are.
        start, stop: Their places, `stop` excluded.
        block: Number of their block; spans of one number are one block.
        bidirectional: Whether its tokens see the whole block, or only what is before them.
    """

    name: str
    start: int
    stop: int
    block: int
    bidirectional: bool

    @property
    def slice(self) -> slice:
        """Their places."""
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class PrefixLayout:
    """Spans in order.

    Raises:
        ConfigError: Two spans have one name, they leave gaps, or the spans of one block differ in direction.
    """

    spans: tuple[Span, ...]

    def __post_init__(self) -> None:
        at, seen, directions = 0, set(), dict[int, bool]()
        for span in self.spans:
            if span.name in seen:
                raise ConfigError(f"layout: there are two spans '{span.name}'.")
            if span.start != at or span.stop < span.start:
                raise ConfigError(f"layout: '{span.name}' is at {span.start} to {span.stop}, it must begin at {at}.")
            if directions.setdefault(span.block, span.bidirectional) != span.bidirectional:
                raise ConfigError(f"layout: block {span.block} of '{span.name}' is both causal and bidirectional.")
            if span.block < max(directions):
                raise ConfigError(f"layout: '{span.name}' is of block {span.block}, after block {max(directions)}.")
            seen.add(span.name)
            at = span.stop

    @classmethod
    def of(cls, *spans: tuple[str, int, int, bool]) -> "PrefixLayout":
        """Return the layout of (name, number of tokens, block, bidirectional)."""
        placed, at = [], 0
        for name, length, block, bidirectional in spans:
            placed.append(Span(name, at, at + length, block, bidirectional))
            at += length
        return cls(tuple(placed))

    def __len__(self) -> int:
        return self.spans[-1].stop if self.spans else 0

    def __getitem__(self, name: str) -> slice:
        """Return the places of a span.

        Raises:
            ConfigError: There is none of this name.
        """
        for span in self.spans:
            if span.name == name:
                return span.slice
        raise ConfigError(f"layout: no span '{name}' among {', '.join(span.name for span in self.spans)}.")

    def then(self, *spans: tuple[str, int, bool]) -> "PrefixLayout":
        """Return the layout with (name, number of tokens, bidirectional) added, each a block of its own."""
        added, at, block = list(self.spans), len(self), self.spans[-1].block + 1 if self.spans else 0
        for number, (name, length, bidirectional) in enumerate(spans):
            added.append(Span(name, at, at + length, block + number, bidirectional))
            at += length
        return PrefixLayout(tuple(added))

    def starts(self, device: torch.device | str | None = None) -> Tensor:
        """Return bool [L], True where a token sees one more than the token before it: see `block_causal_mask`."""
        starts_L = torch.zeros(len(self), dtype=torch.bool, device=device)
        before = None
        for span in self.spans:
            if not len(span):
                continue
            if span.bidirectional:
                starts_L[span.start] = span.block != before
            else:
                starts_L[span.slice] = True
            before = span.block
        return starts_L

    def mask(self, valid_BL: Tensor) -> Tensor:
        """Return who may attend to whom, bool [B, L, L], queries first.

        A token that is not there sees itself alone, so that no row is empty; nothing else sees it.
        """
        self._check(valid_BL)
        allow_BLL = block_causal_mask(self.starts(valid_BL.device), valid_BL)
        return allow_BLL | torch.eye(len(self), dtype=torch.bool, device=valid_BL.device)

    def positions(self, valid_BL: Tensor) -> Tensor:
        """Return positions, int64 [B, L]: the number of tokens before each that are there."""
        self._check(valid_BL)
        return token_positions(valid_BL).clamp(min=0)

    def rows(self) -> list[dict[str, str | int]]:
        """Return a row per span for reports: name, places, number of tokens, block, attention."""
        return [
            {
                "name": span.name,
                "places": f"{span.start}…{span.stop - 1}" if len(span) > 1 else str(span.start),
                "tokens": len(span),
                "block": span.block,
                "attention": "bidirectional" if span.bidirectional else "causal",
            }
            for span in self.spans
            if len(span)
        ]

    def __str__(self) -> str:
        return "\n".join(
            f"{row['places']:>9}  {row['name']:<14} {row['tokens']:>4} tokens  block {row['block']}  {row['attention']}"
            for row in self.rows()
        )

    def _check(self, valid_BL: Tensor) -> None:
        if valid_BL.shape[1] != len(self):
            raise ConfigError(f"layout: {valid_BL.shape[1]} tokens given, the layout has {len(self)}.")


def llava(n_image: int, n_text: int) -> PrefixLayout:
    """Return [BOS][image][text], all causal (LLaVA)."""
    return PrefixLayout.of(("bos", 1, 0, False), ("image", n_image, 0, False), ("text", n_text, 0, False))


def prismatic(n_patches: int, n_text: int) -> PrefixLayout:
    """Return [BOS][patches][rest of the prompt], all causal (Prismatic, OpenVLA)."""
    return PrefixLayout.of(("bos", 1, 0, False), ("patches", n_patches, 0, False), ("text", n_text, 0, False))


def smolvla(image_tokens: Sequence[int], n_text: int, n_state: int = 1) -> PrefixLayout:
    """Return [cameras][text] as one bidirectional block, then [state] (SmolVLA's prefix)."""
    cameras = [(f"image {index}", count, 0, True) for index, count in enumerate(image_tokens)]
    return PrefixLayout.of(*cameras, ("text", n_text, 0, True), ("state", n_state, 1, False))


def paligemma(image_tokens: Sequence[int], n_text: int) -> PrefixLayout:
    """Return [cameras][text] as one bidirectional block (PaliGemma's prefix, π₀'s)."""
    cameras = [(f"image {index}", count, 0, True) for index, count in enumerate(image_tokens)]
    return PrefixLayout.of(*cameras, ("text", n_text, 0, True))


def preset(name: str, image_tokens: Sequence[int], n_text: int) -> PrefixLayout:
    """Return a layout by its name: ``llava``, ``prismatic``, ``smolvla`` (without state) or ``paligemma``.

    Raises:
        ConfigError: There is none of this name.
    """
    total = sum(image_tokens)
    made = {
        "llava": lambda: llava(total, n_text),
        "prismatic": lambda: prismatic(total, n_text),
        "smolvla": lambda: smolvla(image_tokens, n_text, 0),
        "paligemma": lambda: paligemma(image_tokens, n_text),
    }
    if name not in made:
        raise ConfigError(f"layout '{name}' is not one of {', '.join(made)}.")
    return made[name]()
