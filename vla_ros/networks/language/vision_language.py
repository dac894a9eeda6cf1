"""Image tokens and text through a language model to features: the trunk of a vision-language-action model.

Axis legend: B batch, N image tokens of all cameras, L text tokens, D width, Q feature tokens.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError
from vla_ros.networks.language.language_model import LanguageModel
from vla_ros.networks.language.prefix_layout import PrefixLayout, preset
from vla_ros.networks.language.readouts import Readout


class VisionLanguageTrunk(nn.Module):
    """Image tokens stand as embeddings at their place in the sequence; a readout takes features off the end.

    Args:
        language: The language model.
        readout: What reads its hidden states; its queries, if any, are appended as a block of their own.
        image_tokens: N of each camera.
        n_text: L, the most text tokens.
        layout: ``llava``, ``prismatic``, ``smolvla`` or ``paligemma``.

    Attributes:
        layout: What stands where.
        width: D.
        n_tokens: Q.

    Raises:
        ConfigError: No such layout, or the readout is of another width.
    """

    def __init__(
        self,
        language: LanguageModel,
        readout: Readout,
        image_tokens: Sequence[int],
        n_text: int,
        layout: str = "llava",
    ) -> None:
        super().__init__()
        if readout.width != language.width:
            raise ConfigError(f"the readout is of width {readout.width}, the language model of {language.width}.")
        self.language, self.readout = language, readout
        made = preset(layout, image_tokens, n_text)
        self.layout: PrefixLayout = made.then(("queries", readout.n_queries, True)) if readout.n_queries else made
        self.n_image, self.n_text = sum(image_tokens), n_text
        has_bos = any(span.name == "bos" for span in self.layout.spans)
        self.beginning = nn.Parameter(torch.randn(1, language.width) * 0.02) if has_bos else None
        self.width, self.n_tokens = language.width, readout.n_tokens

    def forward(
        self, image_BND: Tensor, text_BL: Tensor, text_valid_BL: Tensor, image_valid_BN: Tensor | None = None
    ) -> Tensor:
        """Return features, float [B, Q, D].

        Args:
            image_BND: Projected image tokens of all cameras, float [B, N, D].
            text_BL: int64 [B, L].
            text_valid_BL: bool [B, L], False for padding.
            image_valid_BN: bool [B, N], False where a sample has no such image; None: all are there.

        Raises:
            ConfigError: There are other numbers of tokens than the trunk was built for.
        """
        given, expected = (image_BND.shape[1], text_BL.shape[1]), (self.n_image, self.n_text)
        if given != expected:
            raise ConfigError(f"{given[0]} image and {given[1]} text tokens; expected {expected[0]} and {expected[1]}.")
        if image_valid_BN is None:
            image_valid_BN = text_valid_BL.new_ones(image_BND.shape[:2])
        embedded, valid_BL = self._sequence(image_BND, text_BL, text_valid_BL, image_valid_BN)
        states = self.language.hidden_states(embedded, self.layout.mask(valid_BL), self.layout.positions(valid_BL))
        features_BQD: Tensor = self.readout(states, valid_BL)
        return features_BQD

    def _sequence(
        self, image_BND: Tensor, text_BL: Tensor, text_valid_BL: Tensor, image_valid_BN: Tensor
    ) -> tuple[Tensor, Tensor]:
        batch, queries = len(image_BND), self.readout.queries()
        parts = [
            (torch.where(image_valid_BN[..., None], image_BND, 0.0), image_valid_BN),
            (self.language.embed(text_BL, text_valid_BL), text_valid_BL),
        ]
        for fixed, at in ((self.beginning, 0), (queries, len(parts) + (self.beginning is not None))):
            if fixed is not None:
                parts.insert(at, (fixed.expand(batch, -1, -1), text_valid_BL.new_ones(batch, len(fixed))))
        return torch.cat([tokens for tokens, _ in parts], dim=1), torch.cat([valid for _, valid in parts], dim=1)
