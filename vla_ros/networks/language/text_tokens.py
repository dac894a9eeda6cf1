"""Text tokens → vectors of a language model's width. No tokenizer, no attention.

Axis legend: B batch, L text tokens, D width.
"""

import math

from torch import Tensor, nn


class TextTokens(nn.Module):
    """Embeds text tokens, multiplied by √width as Gemma does.

    Args:
        vocabulary_size: Tokens known.
        width: D.
    """

    def __init__(self, vocabulary_size: int, width: int) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.embedding = nn.Embedding(vocabulary_size, width)
        nn.init.normal_(self.embedding.weight, std=1.0 / self.scale)  # scaled, they have unit variance

    def forward(self, text_BL: Tensor, valid_BL: Tensor) -> Tensor:
        """Return tokens, float [B, L, D], of int64 [B, L]; what stands in padding does not matter."""
        tokens_BLD: Tensor = self.embedding(text_BL.masked_fill(~valid_BL, 0)) * self.scale
        return tokens_BLD
