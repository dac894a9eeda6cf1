"""Options of the flow and autoregressive policy, checked when built."""

from dataclasses import dataclass
from typing import Literal

from vla_ros.data_types import ConfigError
from vla_ros.objectives import UniformBins
from vla_ros.policies.multimodal import MultimodalConfig


@dataclass(frozen=True, kw_only=True)
class FlowArConfig(MultimodalConfig):
    """Options of `FlowArPolicy`, beside `MultimodalConfig`'s.

    Attributes:
        decode: Which decoder's actions are predicted.
        flow_weight: Of the loss of flow matching, or of diffusion; 0 trains the autoregressive decoder alone.
        autoregressive_weight: Of the cross-entropy; 0 trains the flow alone.
        bins: Values that an action number can take in the autoregressive decoder.
        bin_low, bin_high: Normalised actions at the first and the last bin; those beyond are clipped.
        temperature: Of sampling action tokens; 0 takes the likeliest.
    """

    action_horizon: int = 16
    decode: Literal["flow", "autoregressive"] = "flow"
    flow_weight: float = 1.0
    autoregressive_weight: float = 1.0
    bins: int = 256
    bin_low: float = -1.0
    bin_high: float = 1.0
    temperature: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("flow_weight", "autoregressive_weight", "temperature"):
            if getattr(self, name) < 0.0:
                raise ConfigError(f"{name}={getattr(self, name):g} must be at least 0.")
        weight = "flow_weight" if self.decode == "flow" else "autoregressive_weight"
        if not getattr(self, weight):
            raise ConfigError(f"decode '{self.decode}' needs a decoder that is trained, but {weight} is 0.")
        if self.bins < 2:
            raise ConfigError(f"bins={self.bins} must be at least 2.")
        if not self.bin_low < self.bin_high:
            raise ConfigError(f"bin_low={self.bin_low:g} must be below bin_high={self.bin_high:g}.")

    @property
    def loss_summary(self) -> str:
        """Both decoders' losses with their weights, leaving out one of weight 0."""
        weights = {
            self.objective: self.flow_weight,
            f"cross_entropy over {self.bins} bins": self.autoregressive_weight,
        }
        return " + ".join(f"{weight:g} × {name}" for name, weight in weights.items() if weight)

    @property
    def bounded_actions(self) -> bool:
        """Whether the bins reach no further than [−1, 1], or sampling clips to it, in a decoder that is used."""
        binned = self.autoregressive_weight > 0.0 and self.bin_low >= -1.0 and self.bin_high <= 1.0
        return binned or (self.flow_weight > 0.0 and super().bounded_actions)

    @property
    def action_bins(self) -> UniformBins:
        """The map between normalised actions and bins."""
        return UniformBins(self.bin_low, self.bin_high, self.bins)
