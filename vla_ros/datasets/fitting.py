"""Whether a dataset that was not converted under a contract holds what the contract says."""

from collections.abc import Collection
from math import prod

from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.data_types import DatasetError, nearest_name
from vla_ros.datasets.reader import EpisodeDataset


def check_fits(dataset: EpisodeDataset, contract: RobotContract, keys: Collection[str]) -> None:
    """Refuse a contract whose features a dataset does not have in the same sizes, order and rate.

    Args:
        dataset: Written by somebody else.
        contract: What its user says it means.
        keys: Observations that are used; the action is in any case.

    Raises:
        DatasetError: Names the feature, or the rate, and both sides.
    """
    source = contract.source or contract.robot_type
    if contract.fps != dataset.fps:
        raise DatasetError(f"{dataset.root}: has {dataset.fps} frames per second, {source} says fps {contract.fps}.")
    for key in (*keys, contract.action.key):
        spec = contract.features.get(key)
        if spec is not None:
            _check_feature(dataset, spec, source)


def _check_feature(dataset: EpisodeDataset, spec: FeatureSpec, source: str) -> None:
    held = dataset.features.get(spec.key)
    if held is None:
        raise DatasetError(
            f"{dataset.root}: has no feature '{spec.key}' of {source}; it has {', '.join(dataset.features)[:300]}."
            f"{nearest_name(spec.key, dataset.features)}"
        )
    same = held.shape == spec.shape if spec.kind == "image" else prod(held.shape) == prod(spec.shape)
    if not same or (held.kind == "image") != (spec.kind == "image"):
        raise DatasetError(
            f"{dataset.root}: '{spec.key}' has shape {list(held.shape)}, {source} says {list(spec.shape)}; change the "
            "contract to what the dataset holds."
        )
    if spec.kind in ("vector", "action") and held.names != spec.names and set(held.names) == set(spec.names):
        raise DatasetError(
            f"{dataset.root}: '{spec.key}' holds {', '.join(held.names)[:200]} in that order, {source} says "
            f"{', '.join(spec.names)[:200]}; put the contract's names into the dataset's order."
        )
