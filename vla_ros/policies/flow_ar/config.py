"""Options of the flow and autoregressive policy, checked when built."""

from dataclasses import dataclass
from typing import Annotated, Literal

from vla_ros.data_types import ConfigError
from vla_ros.objectives import UniformBins
from vla_ros.policies.base import MOST_STEPS
from vla_ros.policies.common.multimodal import MultimodalConfig
from vla_ros.schema import About, Only

_BINS = Only("with autoregressive_weight above 0", lambda config: config.autoregressive_weight > 0.0)


@dataclass(frozen=True, kw_only=True)
class FlowArConfig(MultimodalConfig):
    """Options of `FlowArPolicy`, beside `MultimodalConfig`'s."""

    action_horizon: Annotated[int, About("H, steps predicted.", at_least=1, at_most=MOST_STEPS)] = 16
    decode: Annotated[Literal["flow", "autoregressive"], About("Which decoder's actions are predicted.")] = "flow"
    flow_weight: Annotated[
        float,
        About("Of the loss of flow matching, or of diffusion; 0 trains the autoregressive decoder alone.", at_least=0),
    ] = 1.0
    autoregressive_weight: Annotated[float, About("Of the cross-entropy; 0 trains the flow alone.", at_least=0)] = 1.0
    bins: Annotated[int, About("Values that an action number can take in the autoregressive decoder.", at_least=2)] = (
        256
    )
    bin_low: Annotated[float, About("Normalised action at the first bin; smaller ones are clipped.", only=_BINS)] = -1.0
    bin_high: Annotated[float, About("Normalised action at the last bin; larger ones are clipped.", only=_BINS)] = 1.0
    temperature: Annotated[
        float,
        About(
            "Of sampling action tokens; 0 takes the likeliest.",
            at_least=0,
            only=Only("with decode 'autoregressive'", lambda config: config.decode == "autoregressive"),
        ),
    ] = 0.0

    @property
    def learns_flow(self) -> bool:
        """Whether the action expert is trained."""
        return self.flow_weight > 0.0

    @property
    def samples_flow(self) -> bool:
        """Whether the action expert's actions are predicted."""
        return self.decode == "flow"

    def __post_init__(self) -> None:
        super().__post_init__()
        weight = "flow_weight" if self.decode == "flow" else "autoregressive_weight"
        if not getattr(self, weight):
            raise ConfigError(f"decode '{self.decode}' needs a decoder that is trained, but {weight} is 0.")
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
