"""Motions as length and direction, and errors between them. Knows three numbers; no chunk's padding, no gripper.

    m = max(‖a‖, 1e-4)      θ = atan2(√(x² + y²), z) ∈ [0, π]      φ = atan2(y, x) ∈ [−π, π]

Zero is standing still and x, y and z are on one scale; otherwise the angles are those of no motion.

Everything is finite at the pole and at zero, gradients too: acos has none at the pole, and neither √ nor atan2 at zero.

Axis legend: the last axis holds (x, y, z) or (m, θ, φ); any axes before it.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

FLOOR = 1e-4
"""Length below which a motion has no direction."""

CUBE = math.sqrt(3.0)
"""Length of the longest motion in the cube [−1, 1]³."""

# Squares of smaller numbers are near the end of float32; their angle is taken as 0.
_NOTHING = 1e-12

MagnitudeScaling = Literal["affine", "sigmoid_tanh"]


def to_spherical(motion: Tensor) -> Tensor:
    """Return (m, θ, φ) of (x, y, z), float [..., 3]; an angle that is not defined is 0."""
    x, y, z = motion.unbind(-1)
    # vector_norm has the gradient 0 at 0
    across = torch.linalg.vector_norm(motion[..., :2], dim=-1)
    length = torch.linalg.vector_norm(motion, dim=-1)
    return torch.stack([length.clamp(min=FLOOR), _angle(across, z), _angle(y, x)], dim=-1)


def to_cartesian(spherical: Tensor) -> Tensor:
    """Return (x, y, z) of (m, θ, φ), float [..., 3]."""
    length, elevation, azimuth = spherical.unbind(-1)
    across = length * elevation.sin()
    return torch.stack([across * azimuth.cos(), across * azimuth.sin(), length * elevation.cos()], dim=-1)


def scale_to_spherical(bounded: Tensor, scaling: MagnitudeScaling = "affine", largest: float = CUBE) -> Tensor:
    """Return (m, θ, φ) of three network outputs in [−1, 1], float [..., 3]: θ = (t + 1)/2·π, φ = t·π.

    Args:
        bounded: After tanh, float [..., 3].
        scaling: Of the length. ``affine``: (t + 1)/2·largest. ``sigmoid_tanh``: sigmoid(t), which reaches only
            [0.269, 0.731].
        largest: Largest length of ``affine``.
    """
    length, elevation, azimuth = bounded.unbind(-1)
    length = length.sigmoid() if scaling == "sigmoid_tanh" else (length + 1.0) / 2.0 * largest
    return torch.stack([length, (elevation + 1.0) / 2.0 * math.pi, azimuth * math.pi], dim=-1)


def spherical_error(predicted: Tensor, target_motion: Tensor) -> Tensor:
    """Return the differences of (m, θ, φ) to a target, float [..., 3].

    Δφ goes the short way round, in [−π, π). An angle that the target does not define has no error: both angles where
    its length is at the floor, φ also where it points along z.

    Args:
        predicted: (m, θ, φ).
        target_motion: (x, y, z).
    """
    difference = predicted - to_spherical(target_motion)
    azimuth = torch.remainder(difference[..., 2] + math.pi, 2.0 * math.pi) - math.pi
    across = torch.linalg.vector_norm(target_motion[..., :2], dim=-1)
    length = torch.linalg.vector_norm(target_motion, dim=-1)
    none = torch.zeros_like(azimuth)
    elevation = torch.where(length > FLOOR, difference[..., 1], none)
    azimuth = torch.where(across > FLOOR, azimuth, none)
    return torch.stack([difference[..., 0], elevation, azimuth], dim=-1)


@dataclass(frozen=True)
class CartesianMotion:
    """A motion predicted as it is."""

    @classmethod
    def from_options(cls, options: Any) -> "CartesianMotion":  # noqa: ARG003  # it has none
        """Build it of a policy's options."""
        return cls()

    def motion(self, bounded: Tensor) -> Tensor:
        """Return (x, y, z), float [..., 3]."""
        return bounded

    def error(self, bounded: Tensor, target_motion: Tensor) -> Tensor:
        """Return the differences to a target (x, y, z), float [..., 3]."""
        return bounded - target_motion


@dataclass(frozen=True)
class SphericalMotion:
    """A motion of three numbers predicted as length and direction.

    Attributes:
        scaling, largest: As in `scale_to_spherical`.
    """

    scaling: MagnitudeScaling = "affine"
    largest: float = CUBE

    @classmethod
    def from_options(cls, options: Any) -> "SphericalMotion":
        """Build it of a policy's options."""
        return cls(options.magnitude_scaling, options.magnitude_max)

    def motion(self, bounded: Tensor) -> Tensor:
        """Return (x, y, z) of network outputs in [−1, 1], float [..., 3]."""
        # a length may reach beyond the cube that bounded actions lie in
        return to_cartesian(scale_to_spherical(bounded, self.scaling, self.largest)).clamp(-1.0, 1.0)

    def error(self, bounded: Tensor, target_motion: Tensor) -> Tensor:
        """Return the differences of (m, θ, φ) to a target (x, y, z), float [..., 3]."""
        return spherical_error(scale_to_spherical(bounded, self.scaling, self.largest), target_motion)


def _angle(opposite: Tensor, adjacent: Tensor) -> Tensor:
    """Return atan2, and 0 with finite gradients where both are 0."""
    nothing = (opposite.abs() < _NOTHING) & (adjacent.abs() < _NOTHING)
    return torch.atan2(
        torch.where(nothing, torch.zeros_like(opposite), opposite),
        torch.where(nothing, torch.ones_like(adjacent), adjacent),
    )
