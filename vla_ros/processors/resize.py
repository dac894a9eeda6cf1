"""Images at the size that the policy sees. No normalisation."""

from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from torch import Tensor
from torch.nn import functional

from vla_ros.processors.step import Batch, Features, ProcessorStep
from vla_ros.schema import About, Checked


@dataclass(frozen=True, kw_only=True)
class ResizeOptions(Checked):
    """Options of `Resize`."""

    size: Annotated[tuple[int, int], About("(height, width).", "pixels", at_least=1)]


class Resize(ProcessorStep):
    """Scales every image, bilinear and antialiased."""

    name: ClassVar[str] = "resize"
    options_class: ClassVar[type] = ResizeOptions

    def features_after(self) -> Features:
        """Return the features, images at their new size."""
        inputs = {
            key: replace(spec, shape=(*self.options.size, spec.shape[2])) if spec.kind == "image" else spec
            for key, spec in self.before.inputs.items()
        }
        return Features(inputs, self.before.action)

    @property
    def changes(self) -> tuple[str, ...]:
        """Nothing: levels stay what they are, and with them the statistics of each channel."""
        return ()

    def forward(self, batch: Batch) -> dict[str, Any]:
        """Return the batch with images float32 [B, T, h, w, 3], in 0–255 as they came."""
        resized = {
            key: self._resized(batch[key].float())
            for key, spec in self.before.inputs.items()
            if spec.kind == "image" and key in batch
        }
        return {**batch, **resized}

    def summary(self) -> str:
        """Name the size."""
        return f"images to {self.options.size[0]}×{self.options.size[1]}"

    def _resized(self, image_BThw3: Tensor) -> Tensor:
        size = self.options.size
        image_N3hw = image_BThw3.flatten(0, 1).permute(0, 3, 1, 2)
        resized_N3hw = functional.interpolate(image_N3hw, size, mode="bilinear", antialias=True)
        return resized_N3hw.permute(0, 2, 3, 1).reshape(*image_BThw3.shape[:2], *size, 3)
