"""What stands in for a sensor that is not there: one learned token, trained by hiding sensors now and then.

Axis legend: B batch, M modalities, N tokens, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vla_ros.networks.sensors import SensorTokens


class AbsentTokens(nn.Module):
    """A learned token for each optional sensor.

    Args:
        names: Of the optional sensors.
        width: D.
    """

    def __init__(self, names: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.names = names
        self.tokens_MD = nn.Parameter(torch.randn(len(names), width) * 0.02)

    def forward(self, sensors: Mapping[str, SensorTokens]) -> dict[str, SensorTokens]:
        """Return the sensors, each optional one with a token more: valid where the sensor is absent, and only there.

        Args:
            sensors: Name → tokens [B, N, D] and validity; a sensor is absent in the samples without a valid token.
        """
        return {
            name: self._stood_in(said, self.names.index(name)) if name in self.names else said
            for name, said in sensors.items()
        }

    def _stood_in(self, said: SensorTokens, index: int) -> SensorTokens:
        absent_B1 = ~said.valid_BN.any(dim=1, keepdim=True)
        token_B1D = self.tokens_MD[index].expand(absent_B1.shape[0], 1, -1) * absent_B1[..., None]
        return SensorTokens(
            torch.cat([said.tokens_BND, token_B1D], dim=1), torch.cat([said.valid_BN, absent_B1], dim=1)
        )


def drop_modalities(
    sensors: Mapping[str, SensorTokens],
    optional: tuple[str, ...],
    share: float,
    generator: torch.Generator | None = None,
) -> dict[str, SensorTokens]:
    """Hide optional sensors of some samples, for training; a sample whose every modality would be hidden keeps them.

    Args:
        sensors: Name → tokens and validity, all modalities.
        optional: Names of those that may be hidden.
        share: Probability of each to be hidden in a sample, in [0, 1).
        generator: Source of the draws.
    """
    names = [name for name in sensors if name in optional]
    if not names or share <= 0:
        return dict(sensors)
    valid_BN = sensors[names[0]].valid_BN
    draws_BM = torch.rand(valid_BN.shape[0], len(names), generator=generator, device=valid_BN.device) < share
    others = [said.valid_BN.any(dim=1) for name, said in sensors.items() if name not in optional]
    here_BM = torch.stack([sensors[name].valid_BN.any(dim=1) for name in names], dim=1)
    left_B = (here_BM & ~draws_BM).any(dim=1)
    for other_B in others:
        left_B = left_B | other_B
    draws_BM = draws_BM & left_B[:, None]
    return {
        name: said if name not in optional else _hidden(said, draws_BM[:, names.index(name)])
        for name, said in sensors.items()
    }


def _hidden(said: SensorTokens, hide_B: Tensor) -> SensorTokens:
    return SensorTokens(torch.where(hide_B[:, None, None], 0.0, said.tokens_BND), said.valid_BN & ~hide_B[:, None])
