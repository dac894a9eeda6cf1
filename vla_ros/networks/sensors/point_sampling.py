"""Choosing points of a cloud: the farthest ones, and the neighbours of each. Deterministic; NaN is no point.

Axis legend: B batch, N points, M chosen points, K neighbours, F numbers per point.
"""

import torch
from torch import Tensor


def gather_points(values_BNF: Tensor, index_BX: Tensor) -> Tensor:
    """Return the rows of `values_BNF`, [B, N, F], that int64 `index_BX`, [B, ...], names: [B, ..., F]."""
    fields = values_BNF.shape[-1]
    picked = values_BNF.gather(1, index_BX.flatten(1)[..., None].expand(-1, -1, fields))
    return picked.reshape(*index_BX.shape, fields)


def farthest_points(xyz_BN3: Tensor, valid_BN: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Choose points one by one, each the farthest from those chosen before (Eldar et al. 1997; PointNet++, Qi 2017).

    The first is the point farthest from the cloud's mean, so that neither chance nor the order of the points decides.

    Args:
        xyz_BN3: Positions, m, float [B, N, 3]; anything finite where not valid.
        valid_BN: bool [B, N].
        count: M.

    Returns:
        Indices, int64 [B, M], and bool [B, M]: False once a sample's points are used up.
    """
    weight_BN1 = valid_BN[..., None].to(xyz_BN3.dtype)
    number_B = valid_BN.sum(dim=1)
    mean_B13 = (xyz_BN3 * weight_BN1).sum(1, keepdim=True) / number_B.clamp(min=1)[:, None, None]
    distance_BN = torch.where(valid_BN, (xyz_BN3 - mean_B13).square().sum(-1), -1.0)
    nearest_BN = torch.where(valid_BN, torch.inf, -1.0).to(xyz_BN3.dtype)
    chosen = []
    for _ in range(count):
        index_B1 = distance_BN.argmax(dim=1, keepdim=True)
        chosen.append(index_B1)
        offset_BN = (xyz_BN3 - gather_points(xyz_BN3, index_B1)).square().sum(-1)
        nearest_BN = torch.minimum(nearest_BN, torch.where(valid_BN, offset_BN, -1.0))
        distance_BN = nearest_BN
    index_BM = torch.cat(chosen, dim=1)
    return index_BM, torch.arange(count, device=xyz_BN3.device) < number_B[:, None]


def ball_query(
    centres_BM3: Tensor, xyz_BN3: Tensor, valid_BN: Tensor, radius: float, count: int
) -> tuple[Tensor, Tensor]:
    """Find the nearest points within a radius of each centre.

    The published code takes the first ones by index, which makes the result depend on the order of the points.

    Args:
        centres_BM3: Centres, m, float [B, M, 3].
        xyz_BN3: Positions, m, float [B, N, 3]; anything finite where not valid.
        valid_BN: bool [B, N].
        radius: m; a point at this distance is inside.
        count: K, at most N are found.

    Returns:
        Indices by distance, int64 [B, M, min(K, N)], and bool of the same shape: False where there is no further point.
    """
    squared_BMN = (centres_BM3[:, :, None] - xyz_BN3[:, None]).square().sum(-1)
    squared_BMN = squared_BMN.masked_fill(~valid_BN[:, None], torch.inf)
    nearest_BMK, index_BMK = squared_BMN.topk(min(count, xyz_BN3.shape[1]), dim=-1, largest=False, sorted=True)
    return index_BMK, nearest_BMK <= radius * radius


def split_points(points_BNF: Tensor) -> tuple[Tensor, Tensor]:
    """Return points with zeros in place of NaN rows, and bool [B, N]: which rows are points.

    A row counts as a point when all its numbers are finite.
    """
    valid_BN = torch.isfinite(points_BNF).all(dim=-1)
    return torch.where(valid_BN[..., None], points_BNF, 0.0), valid_BN
