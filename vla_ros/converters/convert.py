"""Bags → one dataset: which bags, which features, in which order, and what is said about it."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vla_ros.bags.clock import ClockMode
from vla_ros.contract import FeatureSpec, RobotContract
from vla_ros.converters.calibration import with_calibration
from vla_ros.converters.contracts import check_appended, kept_contract, served_before
from vla_ros.converters.episode import EpisodePart, SegmentReader, ticks_ns
from vla_ros.converters.features import choose_features
from vla_ros.converters.job import Job
from vla_ros.converters.late_list import LateList, read_late_list, unknown
from vla_ros.converters.report import ConversionReport, EpisodeReport, LeftOut, episode_from, stream_report
from vla_ros.converters.report_files import report_files, reported, write_report
from vla_ros.converters.scan import BagScan, decide_segments, read_episode_file, scan_bag
from vla_ros.converters.tasks import check_default, tasks_of
from vla_ros.converters.timeline import bag_line, note_steps
from vla_ros.data_types import NANOSECONDS, DatasetError, DecodeError
from vla_ros.datasets import DatasetWriter, ImageStorage, WriteError
from vla_ros.datasets.layout import CONTRACT_HASH_PATH, CONTRACT_PATH


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
    clock: ClockMode = "auto",
    instructions: Mapping[str, str] | None = None,
    picture: bool = False,
    report_folder: Path | None = None,
    progress: bool = True,
    late_samples: Path | None = None,
) -> ConversionReport:
    """Convert bags into a LeRobotDataset v3.0: an episode for each, more where a clock steps or the task changes.

    Ticks lie on the contract's grid. An episode goes from the first tick at which every stored input and the action
    have a value to the last; a hole in between refuses the bag. A refused bag is reported and the others are
    converted; the dataset appears under its name only when it is whole and was checked. A conversion that was killed
    goes on where it was when it is called again in the same way.

    Optional inputs: a camera, vector or window is stored when it is whole in every bag. Points are stored when any bag
    has messages of them, and are rows of NaN where they are silent.

    Args:
        bags: Folders of bags, or storage files.
        contract: The robot; bags of any contract convert that hold its topics and types.
        root: Folder of the dataset to write.
        image_storage: ``video`` or lossless ``png``.
        codec: ``av1`` or ``h264`` (or their encoders' names), of videos.
        crf: Video quality, lower is better; None takes the codec's default.
        only_successful: Skip bags whose ``episode.json`` says that the task failed. Bags that do not say are taken.
        recover: Take what is whole of damaged and cut off bags.
        append: Add to the dataset at `root`, which must be of the same contract; its conversion report is replaced.
        clock: ``auto``: header stamps, whose clocks must agree; ``header``: header stamps, whatever their delays;
            ``receive``: the time of receiving.
        instructions: Task name, as in ``episode.json``, → instruction of its episodes that have none; "" → of all.
        picture: Draw the report into the dataset too.
        report_folder: Where the report is written too, as JSON and as a picture; also when no bag could be converted.
        progress: Show a progress bar, on a terminal only.
        late_samples: List of samples to leave out of the ticks that missed them, as `read_late_list`; without one,
            every sample is at its place.

    Raises:
        DatasetError: No bag could be converted, or the dataset cannot be written.
    """
    bags, root = [Path(bag) for bag in bags], Path(root)
    if append:
        check_appended(root, contract)
    late = None if late_samples is None else read_late_list(Path(late_samples))
    served = served_before(root) if append else {}
    job = Job(bags, root, contract, clock, recover, dict(instructions or {}), late, served)
    chosen = _choose(job, only_successful)
    with _progress(2 * len(chosen), progress) as advance, reported(report_folder, job):
        scans = _scan_all(chosen, job, advance)
        if not scans:
            raise job.nothing_converted()
        features, left_out = choose_features(scans, contract, clock)
        features = with_calibration(features, scans, contract, job.notes)
        text = kept_contract(contract, [scan.bag for scan in scans])
        form: Any = {"image_storage": image_storage, "codec": codec, "crf": crf, "append": append}
        writer = DatasetWriter(root, features, contract.fps, contract.robot_type, **form, resume=contract.hash)
        with writer:
            job.notes += writer.notes
            reports = _convert_all(scans, job, features, writer, advance)
            report = job.report(reports, left_out)
            files = report_files(report, job.lines, picture)
            dataset = writer.finish({CONTRACT_PATH: text, CONTRACT_HASH_PATH: contract.hash + "\n", **files})
        _check_written(dataset.lengths[writer.n_base_episodes :], report)
    if report_folder is not None:
        write_report(report_folder, report, job)
    return report


def _check_written(lengths: Sequence[int], report: ConversionReport) -> None:
    """Hold the dataset, opened anew, to what was written into it."""
    written = [episode.frames for episode in report.episodes]
    if list(lengths) != written:
        raise RuntimeError(f"{report.root}: holds {list(lengths)} frames, {written} were written")


def _choose(job: Job, only_successful: bool) -> list[tuple[Path, dict[str, object]]]:
    """Sort out bags of failed demonstrations, and note those that were recorded under another contract."""
    chosen: list[tuple[Path, dict[str, object]]] = []
    contract = job.contract
    others: dict[str, list[Path]] = {}
    older: list[Path] = []
    if not job.bags:
        raise DatasetError("no bag to convert was given.")
    for bag in job.bags:
        if not bag.exists():
            raise DatasetError(f"{bag}: no such bag.")
        with job.refusing(bag):
            episode = read_episode_file(bag)
            recorded = str(episode.get("contract_hash") or contract.hash)
            if recorded == contract.hash_v1:
                older.append(bag)
            elif recorded != contract.hash:
                others.setdefault(recorded[:40], []).append(bag)
            if only_successful and episode.get("success") is False:
                job.skipped.append(LeftOut(str(bag), "episode.json says that the task failed"))
            else:
                chosen.append((bag, episode))
    if older:
        job.notes.append(
            f"{len(older)} bags carry the contract's hash of version 1, which left fields out, the first {older[0]}"
        )
    job.notes += [
        f"{len(some)} bags were recorded under contract {recorded} and are converted under {contract.hash}, "
        f"the first {some[0]}"
        for recorded, some in others.items()
    ]
    return chosen


def _scan_all(
    chosen: Sequence[tuple[Path, dict[str, object]]], job: Job, advance: Callable[[str], None]
) -> list[BagScan]:
    """Read every bag's stamps; unreadable bags are noted."""
    scans: list[BagScan] = []
    for bag, episode in chosen:
        with job.refusing(bag):
            scan = scan_bag(bag, job.contract, episode, recover=job.recover)
            job.lines[str(bag)] = bag_line(scan)
            decide_segments(scan, job.contract, job.clock)
            note_steps(job.lines[str(bag)], scan)
            scans.append(scan)
        advance(f"reading {bag.name}")
    return scans


def _convert_all(
    scans: Sequence[BagScan],
    job: Job,
    features: dict[str, FeatureSpec],
    writer: DatasetWriter,
    advance: Callable[[str], None],
) -> list[EpisodeReport]:
    """Write the episodes of every bag that has some; the others are noted."""
    reports: list[EpisodeReport] = []
    for scan in scans:
        with job.refusing(scan.bag):
            key = _identity(scan, job)
            kept = writer.resumed(key)
            if kept is None:
                own = _convert(scan, job, features, writer)
                writer.mark_done(key)
            else:
                for segment in scan.segments:
                    tasks = tasks_of(scan, segment, job.contract, job.instructions)
                    check_default(scan, tasks, job.contract, job.served)
                own = [episode_from(note) for note in kept]
            reports += own
            job.notes += scan.notes
            for report in own:
                offset_ns = round(report.clock_offset_s * NANOSECONDS)
                job.lines[str(scan.bag)].add_episode(report.begin_ns, report.end_ns, offset_ns)
        advance(f"writing {scan.bag.name}")
    if not reports:
        raise job.nothing_converted()
    return reports


def _identity(scan: BagScan, job: Job) -> str:
    """Return what changes when a bag, or the way it is converted, does."""
    files = [scan.bag] if scan.bag.is_file() else sorted(path for path in scan.bag.iterdir() if path.is_file())
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    late = [] if job.late is None else job.late.of(scan.bag)
    return json.dumps([str(scan.bag.resolve()), stats, job.clock, job.recover, dict(job.instructions), late])


def _convert(scan: BagScan, job: Job, features: dict[str, FeatureSpec], writer: DatasetWriter) -> list[EpisodeReport]:
    """Write the episodes of one bag.

    Raises:
        DatasetError: None of its parts gives a frame, or one of them has a hole.
    """
    reports: list[EpisodeReport] = []
    first = writer.n_episodes
    empty: DatasetError | DecodeError | None = None
    for segment in scan.segments:
        written = writer.n_episodes
        try:
            tasks = tasks_of(scan, segment, job.contract, job.instructions)
            check_default(scan, tasks, job.contract, job.served)
            late = () if job.late is None else job.late.of(scan.bag)
            reader = SegmentReader(
                scan, segment, job.contract, features, clock=job.clock, recover=job.recover, left_out=late
            )
            if job.late is not None:
                _note_late(scan, job.late, unknown(late, reader.streams, job.late.source))
            for part, frames in reader.parts(tasks):
                note = _Note(reader, part, scan, job)
                index = writer.add_episode(frames, part.task, note=note)
                reports.append(note.report(index))
            scan.notes += reader.trimmed_notes()
        except WriteError:
            raise
        except (DatasetError, DecodeError) as reason:
            writer.rollback(written)
            reports = reports[: written - first]
            if len(scan.segments) == 1:
                raise
            empty = reason
            where = f"after: {segment.begins}" if segment.begins else "before the first step"
            scan.notes.append(f"a part of a bag is left out ({where}): {reason}")
    if not reports and empty is not None:
        raise empty
    return reports


def _note_late(scan: BagScan, late: LateList, lost: int) -> None:
    text = f"{scan.bag}: late samples are left out of the ticks that missed them, as {late.source} lists them"
    scan.notes.append(f"{text}; {lost} of them are not in the bag" if lost else text)


@dataclass(frozen=True)
class _Note:
    """Describes an episode once its frames were taken."""

    reader: SegmentReader
    part: EpisodePart
    scan: BagScan
    job: Job

    def __call__(self, index: int) -> dict[str, object]:
        return asdict(self.report(index))

    def report(self, index: int) -> EpisodeReport:
        reader, part = self.reader, self.part
        at_ns = ticks_ns(np.array(part.ticks, np.int64), self.job.contract.fps)
        late = reader.late_frames(part)
        return EpisodeReport(
            bag=str(self.scan.bag),
            episode_index=index,
            task=part.task,
            frames=len(at_ns),
            begin_ns=int(at_ns[0]),
            end_ns=int(at_ns[-1]),
            trimmed_begin=reader.trimmed_begin,
            trimmed_end=reader.trimmed_end,
            late_ticks=len({frame.frame for frame in late}),
            clock="receive" if self.job.clock == "receive" else "header",
            clock_offset_s=reader.segment.offset_ns / NANOSECONDS,
            offsets_s=reader.segment.offsets_s,
            streams=tuple(stream_report(stream, at_ns) for stream in reader.streams),
            late=tuple(late),
            late_samples=tuple(reader.late_samples(part)),
        )


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
