"""Which optional features a dataset has: those that are whole in every bag, so that no frame lacks one."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vla_ros.bags.clock import ClockMode
from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.converters.episode import is_required, needed_ticks, ticks_ns
from vla_ros.converters.report import LeftOut
from vla_ros.converters.scan import BagScan
from vla_ros.converters.timing import stream_times
from vla_ros.data_types import NANOSECONDS, DatasetError


def choose_features(
    scans: Sequence[BagScan], contract: RobotContract, clock: ClockMode
) -> tuple[dict[str, FeatureSpec], list[LeftOut]]:
    """Return the features to store, and the optional ones that are left out with the reason.

    Points are stored where any bag has messages of them, for a silent cloud is rows of NaN. A camera, vector or window
    has no such form: one that is missing at a tick of any bag is left out, and the bags stay.
    """
    features, left_out = {}, []
    for key, spec in contract.features.items():
        if key == contract.action.key or is_required(contract, key):
            features[key] = spec
            continue
        topics = [stream.topic for stream in contract.inputs if stream.key == key]
        has = [all(topic in scan.times for topic in topics) for scan in scans]
        missing = ""
        if not (any(has) if spec.kind == "points" else all(has)):
            missing = f"{', '.join(topics)} has messages in {sum(has)} of {len(has)} bags"
        elif spec.kind != "points":
            missing = next((text for scan in scans if (text := _hole(scan, key, contract, clock))), "")
        if missing:
            left_out.append(LeftOut(key, f"optional, and {missing}"))
        else:
            features[key] = spec
    return features, left_out


def _hole(scan: BagScan, key: str, contract: RobotContract, clock: ClockMode) -> str:
    """Say where an optional stream has no value at a tick at which all required ones have theirs."""
    for segment in scan.segments:
        streams = stream_times(scan, segment, clock, contract)
        needed = [s for s in streams if s.source.required]
        if len(needed) < sum(source.required for source in scan.sources):
            continue
        try:
            at_ns = ticks_ns(needed_ticks(needed, contract.fps, str(scan.bag)), contract.fps)
        except DatasetError:
            continue  # said when the bag is converted
        frames = np.logical_and.reduce([stream.available(at_ns) for stream in needed])
        for record in (stream for stream in needed if stream.source.index < 0):
            frames &= record.due_ns(at_ns) <= record.stamps_ns[-1]  # a command must follow
        own = [s for s in streams if s.source.key == key]
        has = np.zeros(len(at_ns), bool)
        if len(own) == sum(source.key == key for source in scan.sources):
            has = np.logical_and.reduce([stream.available(at_ns) for stream in own])
        lacking = _not_at_the_ends(frames, has)
        if lacking.any():
            at_s = (at_ns[np.argmax(lacking)] - at_ns[0]) / NANOSECONDS
            return (
                f"{scan.bag} has no value of it at {int(lacking.sum())} ticks, the first {at_s:.3f} s into the "
                "episode; with required: true that bag is refused instead"
            )
    return ""


def _not_at_the_ends(frames: NDArray[np.bool_], has: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the frames that lack a value, but for a few before the first and after the last one: those are trimmed."""
    lacking = np.asarray(frames & ~has, bool)
    both = np.flatnonzero(frames & has)
    if not len(both):
        return lacking
    inner = np.zeros(len(frames), bool)
    inner[both[0] : both[-1] + 1] = True
    at_the_ends = int((lacking & ~inner).sum())
    return np.asarray(lacking & inner, bool) if at_the_ends <= max(1, len(frames) // 10) else lacking
