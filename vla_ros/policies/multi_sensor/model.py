"""Any number of sensors → fused tokens → one feature vector → a head. No feature keys' meaning, no episode.

Axis legend: B batch, N tokens, D width, Q queries, F = Q·D features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vla_ros.data_types import ConfigError, ObservationError
from vla_ros.networks.fusion import AbsentTokens, CrossAttentionBlock, drop_modalities
from vla_ros.networks.heads.trajectory import TrajectoryHead
from vla_ros.networks.sensors import SensorTokens
from vla_ros.registry import FUSIONS


class AsTokens(nn.Module):
    """Makes tokens of what an encoder of any form returns: `SensorTokens`, features [B, F] or tokens [B, N, F].

    Args:
        encoder: Says its output's size as ``width``, ``output_dim`` or ``feature_dim``; otherwise that is `width`.
        width: D.
    """

    def __init__(self, encoder: nn.Module, width: int) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = (getattr(encoder, name, None) for name in ("width", "output_dim", "feature_dim"))
        size = next((size for size in sizes if isinstance(size, int)), width)
        self.output = nn.Identity() if size == width else nn.Linear(size, width)

    def forward(self, values: Any) -> SensorTokens:
        """Encode values; features and tokens of an encoder that says nothing of validity are valid where finite."""
        said = self.encoder(values)
        if isinstance(said, tuple):
            tokens_BND, valid_BN = said
        else:
            tokens_BND = said[:, None] if said.ndim == 2 else said
            valid_BN = torch.isfinite(tokens_BND).all(dim=-1)
        tokens_BND = self.output(torch.where(valid_BN[..., None], tokens_BND, 0.0))
        return SensorTokens(torch.where(valid_BN[..., None], tokens_BND, 0.0), valid_BN)


class MultiSensorVLA(nn.Module):
    """Encodes each sensor, fuses their tokens, and reads them by learned queries.

    ``MultiSensorVLA(sensor_encoders={"my_sensor": MySensorEncoder(output_dim=256)})`` is a whole model: what its head
    returns for ``{"my_sensor": values}``.

    Args:
        sensor_encoders: Name → module of that sensor's values; see `AsTokens` for what it may return.
        width: D.
        n_heads: Attention heads.
        fusion: Name in `vla_ros.registry.FUSIONS`; a single sensor has nothing to fuse.
        n_fusion_layers: Layers of the fusion.
        scene: Of hierarchical fusion: the sensors of its first stage.
        optional: Sensors that may be missing.
        modality_dropout: Probability with which training hides each of them.
        n_queries: Q.
        head: Module of features [B, Q·D]; None for a trajectory of eight waypoints with three modes.

    Attributes:
        feature_dim: F.

    Raises:
        ConfigError: There is no sensor, or an optional one is unknown.
    """

    def __init__(
        self,
        sensor_encoders: Mapping[str, nn.Module],
        *,
        width: int = 256,
        n_heads: int = 8,
        fusion: str = "cross_modal",
        n_fusion_layers: int = 2,
        scene: Sequence[str] = (),
        optional: Sequence[str] = (),
        modality_dropout: float = 0.2,
        n_queries: int = 1,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not sensor_encoders:
            raise ConfigError("MultiSensorVLA needs at least one sensor encoder.")
        if unknown := [name for name in optional if name not in sensor_encoders]:
            raise ConfigError(f"optional names {', '.join(unknown)}; the sensors are {', '.join(sensor_encoders)}.")
        self.names, self.optional, self.modality_dropout = tuple(sensor_encoders), tuple(optional), modality_dropout
        self.encoders = nn.ModuleList(AsTokens(encoder, width) for encoder in sensor_encoders.values())
        self.absent = AbsentTokens(self.optional, width)
        self.modality = nn.Parameter(torch.randn(len(self.names), width) * 0.02)
        options = {"scene": tuple(scene)} if scene else {}
        name = fusion if len(self.names) > 1 else "concatenation"
        self.fusion = FUSIONS[name](self.names, width, n_heads=n_heads, n_layers=n_fusion_layers, **options)
        self.queries = nn.Parameter(torch.randn(n_queries, width) * 0.02)
        self.readout = nn.ModuleList(CrossAttentionBlock(width, n_heads) for _ in range(2))
        self.norm = nn.LayerNorm(width)
        self.feature_dim = n_queries * width
        self.head = head if head is not None else TrajectoryHead(self.feature_dim, horizon=8)

    def forward(self, observation: Mapping[str, Any], generator: torch.Generator | None = None) -> Any:
        """Return what the head makes of an observation: name → that sensor's values, optional ones may be missing."""
        return self.head(self.features(self.encode(observation), generator))

    def encode(self, observation: Mapping[str, Any]) -> dict[str, SensorTokens]:
        """Return each sensor's tokens.

        Raises:
            ObservationError: A sensor that is not optional is missing.
        """
        missing = [name for name in self.names if name not in observation and name not in self.optional]
        if missing or not any(name in observation for name in self.names):
            given = ", ".join(observation) or "none"
            raise ObservationError(f"the sensors {', '.join(missing or self.names)} are missing (given: {given}).")
        encoders = dict(zip(self.names, self.encoders, strict=True))
        said = {name: encoders[name](observation[name]) for name in self.names if name in observation}
        like = next(iter(said.values())).tokens_BND
        nothing = SensorTokens(like[:, :1] * 0.0, torch.zeros(len(like), 1, dtype=torch.bool, device=like.device))
        return {name: said.get(name, nothing) for name in self.names}

    def features(self, sensors: Mapping[str, SensorTokens], generator: torch.Generator | None = None) -> Tensor:
        """Return what the queries read of the fused sensors, float [B, F]; training hides optional sensors."""
        if self.training:
            sensors = drop_modalities(sensors, self.optional, self.modality_dropout, generator)
        sensors = self.absent(sensors)
        marked = {
            name: SensorTokens(
                torch.where(sensors[name].valid_BN[..., None], sensors[name].tokens_BND + self.modality[index], 0.0),
                sensors[name].valid_BN,
            )
            for index, name in enumerate(self.names)
        }
        fused: SensorTokens = self.fusion(marked)
        read_BQD = self.queries.expand(len(fused.tokens_BND), -1, -1)
        for block in self.readout:
            read_BQD = block(read_BQD, fused.tokens_BND, fused.valid_BN)
        features_BF: Tensor = self.norm(read_BQD).flatten(1)
        return features_BF
