"""Bags → one dataset: which bags, which features, in which order, and what is said about it."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from vla_ros.contract import FeatureSpec, RobotContract, contract_text, is_hash_of, load_contract
from vla_ros.converters.episode import EpisodeReader
from vla_ros.converters.report import ConversionReport, EpisodeReport, LeftOut, stream_report
from vla_ros.converters.scan import BagScan, check_contract_of, read_episode_file, scan_bag
from vla_ros.data_types import NANOSECONDS, DatasetError, DecodeError, tick_ns
from vla_ros.datasets import DatasetWriter, ImageStorage
from vla_ros.datasets.layout import CONTRACT_HASH_PATH, CONTRACT_PATH

REPORT_PATH = "meta/conversion_report.json"


def convert_bags(
    bags: Sequence[Path],
    contract: RobotContract,
    root: Path,
    *,
    image_storage: ImageStorage = "video",
    codec: str = "av1",
    crf: int | None = None,
    only_successful: bool = True,
    recover: bool = False,
    append: bool = False,
    progress: bool = True,
) -> ConversionReport:
    """Convert bags, an episode each, into a LeRobotDataset v3.0.

    Ticks lie on the contract's grid. An episode goes from the first tick at which every stored input and the action
    have a value to the last; a hole in between refuses the bag. A refused bag is reported and the others are
    converted; the dataset appears under its name only when it is whole and was checked.

    Optional inputs: a camera, vector or window is stored when every bag has messages of it, and is then needed like a
    required one. Points are stored when any bag has messages of them, and are rows of NaN where they are silent.

    Args:
        bags: Folders of bags, or ``.mcap`` files.
        contract: The robot; must have the hash of the contract that the bags were recorded under.
        root: Folder of the dataset to write.
        image_storage: ``video`` or lossless ``png``.
        codec: ``av1`` or ``h264`` (or their encoders' names), of videos.
        crf: Video quality, lower is better; None takes the codec's default.
        only_successful: Skip bags whose ``episode.json`` says that the task failed. Bags that do not say are taken.
        recover: Take a cut-off MCAP file up to the cut.
        append: Add to the dataset at `root`, which must be of the same contract; its conversion report is replaced.
        progress: Show a progress bar, on a terminal only.

    Raises:
        DatasetError: No bag could be converted, a bag is of another contract, or the dataset cannot be written.
    """
    bags, root = [Path(bag) for bag in bags], Path(root)
    if append:
        _check_appended(root, contract)
    chosen, skipped = _choose(bags, contract, only_successful)
    refused: list[LeftOut] = []
    with _progress(2 * len(chosen), progress) as advance:
        scans = _scan_all(chosen, contract, recover, refused, advance)
        if not scans:
            raise DatasetError(_nothing_converted(bags, skipped, refused))
        features, left_out = _features(scans, contract)
        text = _contract_text(contract, [scan.bag for scan in scans])
        writer = DatasetWriter(
            root,
            features,
            contract.fps,
            contract.robot_type,
            image_storage=image_storage,
            codec=codec,
            crf=crf,
            append=append,
        )
        with writer:
            before = writer.n_episodes
            reports = _convert_all(scans, contract, features, writer, recover=recover, refused=refused, advance=advance)
            if not reports:
                raise DatasetError(_nothing_converted(bags, skipped, refused))
            report = ConversionReport(
                root, contract.hash, tuple(reports), tuple(skipped), tuple(refused), tuple(left_out)
            )
            dataset = writer.finish(
                {
                    CONTRACT_PATH: text,
                    CONTRACT_HASH_PATH: contract.hash + "\n",
                    REPORT_PATH: json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n",
                }
            )
    if list(dataset.lengths[before:]) != [episode.frames for episode in reports]:
        raise RuntimeError(
            f"{root}: holds {dataset.lengths[before:]} frames, {[r.frames for r in reports]} were written"
        )
    return report


def _choose(
    bags: Sequence[Path], contract: RobotContract, only_successful: bool
) -> tuple[list[tuple[Path, dict[str, object]]], list[LeftOut]]:
    """Sort out bags of failed demonstrations; refuse all when one is of another contract."""
    chosen: list[tuple[Path, dict[str, object]]] = []
    skipped: list[LeftOut] = []
    if not bags:
        raise DatasetError("no bag to convert was given.")
    for bag in bags:
        if not bag.exists():
            raise DatasetError(f"{bag}: no such bag.")
        episode = read_episode_file(bag)
        check_contract_of(bag, contract, episode)
        if only_successful and episode.get("success") is False:
            skipped.append(LeftOut(str(bag), "episode.json says that the task failed"))
        else:
            chosen.append((bag, episode))
    return chosen, skipped


def _scan_all(
    chosen: Sequence[tuple[Path, dict[str, object]]],
    contract: RobotContract,
    recover: bool,
    refused: list[LeftOut],
    advance: Callable[[str], None],
) -> list[BagScan]:
    """Read every bag's stamps; unreadable bags are noted in `refused`."""
    scans: list[BagScan] = []
    for bag, episode in chosen:
        with _refusing(bag, refused):
            scans.append(scan_bag(bag, contract, episode, recover))
        advance(f"reading {bag.name}")
    return scans


def _convert_all(
    scans: Sequence[BagScan],
    contract: RobotContract,
    features: dict[str, FeatureSpec],
    writer: DatasetWriter,
    *,
    recover: bool,
    refused: list[LeftOut],
    advance: Callable[[str], None],
) -> list[EpisodeReport]:
    """Write an episode for every bag that has one; the others are noted in `refused`."""
    reports: list[EpisodeReport] = []
    for scan in scans:
        with _refusing(scan.bag, refused):
            reports.append(_convert(scan, contract, features, writer, recover))
        advance(f"writing {scan.bag.name}")
    return reports


@contextmanager
def _refusing(bag: Path, refused: list[LeftOut]) -> Iterator[None]:
    """Note what is wrong with one bag and go on."""
    try:
        yield
    except (DatasetError, DecodeError) as reason:
        refused.append(LeftOut(str(bag), str(reason)))


def _features(scans: Sequence[BagScan], contract: RobotContract) -> tuple[dict[str, FeatureSpec], list[LeftOut]]:
    """Decide which optional features the dataset has."""
    features, left_out = {}, []
    for key, spec in contract.features.items():
        streams = [stream for stream in contract.inputs if stream.key == key]
        if key == contract.action.key or any(stream.required for stream in streams):
            features[key] = spec
            continue
        has = [all(f"{key} {stream.topic}" in scan.streams for stream in streams) for scan in scans]
        if any(has) if spec.kind == "points" else all(has):
            features[key] = spec
        else:
            names = ", ".join(stream.topic for stream in streams)
            left_out.append(LeftOut(key, f"optional, and {names} has messages in {sum(has)} of {len(has)} bags"))
    return features, left_out


def _convert(
    scan: BagScan, contract: RobotContract, features: dict[str, FeatureSpec], writer: DatasetWriter, recover: bool
) -> EpisodeReport:
    reader = EpisodeReader(scan, contract, features, recover)
    task = _task(scan, contract)
    index = writer.add_episode(reader.frames(), task)
    ticks_ns = np.array([tick_ns(tick, contract.fps) for tick in reader.ticks], np.int64)
    return EpisodeReport(
        bag=str(scan.bag),
        episode_index=index,
        task=task,
        frames=len(ticks_ns),
        begin_ns=int(ticks_ns[0]),
        end_ns=int(ticks_ns[-1]),
        trimmed_begin=reader.trimmed_begin,
        trimmed_end=reader.trimmed_end,
        late_ticks=reader.late_ticks,
        clock_offset_s=scan.clock_offset_ns / NANOSECONDS,
        streams=tuple(stream_report(stream, ticks_ns) for stream in scan.streams.values()),
    )


def _task(scan: BagScan, contract: RobotContract) -> str:
    """Instruction of an episode: the recorder's note, else the one said on the topic, else the contract's default.

    Raises:
        DatasetError: Several were said, or none anywhere.
    """
    noted = str(scan.episode.get("instruction") or "")
    said = list(dict.fromkeys(text for _, text in scan.instructions if text))
    if len(said) > 1 and not noted:
        raise DatasetError(
            f"{scan.bag}: holds {len(said)} instructions ('{said[0]}', '{said[1]}'); record an episode for each."
        )
    task = noted or (said[0] if said else contract.instruction.default)
    if not task:
        raise DatasetError(
            f"{scan.bag}: has no instruction in episode.json or on {contract.instruction.topic}; "
            "set instruction.default in the contract."
        )
    return task


def _check_appended(root: Path, contract: RobotContract) -> None:
    """Refuse to add to a dataset of another contract: equal shapes do not make equal meanings."""
    path = root / CONTRACT_HASH_PATH
    held = path.read_text(encoding="utf-8").strip() if path.is_file() else "no contract"
    copy = root / CONTRACT_PATH
    same = copy.is_file() and load_contract(copy).hash == contract.hash  # an older hash alone does not say it
    if root.exists() and not (is_hash_of(held, contract, root) and (same or held == contract.hash)):
        raise DatasetError(f"{root}: cannot append, it was made under {held}, the given contract is {contract.hash}.")


def _contract_text(contract: RobotContract, bags: Sequence[Path]) -> str:
    """Text of a file that holds this very contract: its source, or a bag's copy of it.

    Raises:
        DatasetError: None of them is there any more.
    """
    for path in [Path(contract.source), *(bag / "contract.yaml" for bag in bags)]:
        if path.is_file() and (held := load_contract(path)).hash == contract.hash:
            return contract_text(held)
    raise DatasetError(
        f"{contract.source or contract.robot_type}: no file holds contract {contract.hash}; "
        "the dataset keeps a copy of it, so its file must still be there."
    )


def _nothing_converted(bags: Sequence[Path], skipped: Sequence[LeftOut], refused: Sequence[LeftOut]) -> str:
    if len(bags) == 1 and refused:
        return refused[0].reason
    first = f"; the first: {refused[0].reason}" if refused else ""
    count = f"{len(skipped)} failed demonstrations, {len(refused)} refused"
    return f"none of {len(bags)} bags became an episode ({count}){first}"


@contextmanager
def _progress(total: int, wanted: bool) -> Iterator[Callable[[str], None]]:
    """Yield what is called after each bag; it draws a bar where a person watches."""
    if not wanted or not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("converting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda name: bar.update(task, advance=1, description=name)
