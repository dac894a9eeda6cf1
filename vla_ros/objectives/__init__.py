"""Losses: numbers in, a scalar out. They know shapes and padding, no architecture, feature or file."""

from vla_ros.objectives.binned import ActionBins
from vla_ros.objectives.cross_entropy import BinnedActions, UniformBins, cross_entropy
from vla_ros.objectives.diffusion import Diffusion, DiffusionDraw
from vla_ros.objectives.flow_matching import FlowDraw, FlowMatching, draw_flow, integrate_flow, sample_flow_time
from vla_ros.objectives.noise import Denoiser, Noised, kl_to_standard_normal, sample_gaussian, sample_noise
from vla_ros.objectives.regression import l1, magnitude_weight, masked_mean, mse, padding_of_numbers, smooth_l1
from vla_ros.objectives.spherical import (
    CartesianMotion,
    MagnitudeScaling,
    SphericalMotion,
    scale_to_spherical,
    spherical_error,
    to_cartesian,
    to_spherical,
)

__all__ = [
    "ActionBins",
    "BinnedActions",
    "CartesianMotion",
    "Denoiser",
    "Diffusion",
    "DiffusionDraw",
    "FlowDraw",
    "FlowMatching",
    "MagnitudeScaling",
    "Noised",
    "SphericalMotion",
    "UniformBins",
    "cross_entropy",
    "draw_flow",
    "integrate_flow",
    "kl_to_standard_normal",
    "l1",
    "magnitude_weight",
    "masked_mean",
    "mse",
    "padding_of_numbers",
    "sample_flow_time",
    "sample_gaussian",
    "sample_noise",
    "scale_to_spherical",
    "smooth_l1",
    "spherical_error",
    "to_cartesian",
    "to_spherical",
]
