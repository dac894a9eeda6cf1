"""The files of a conversion's report: JSON and a picture, in the dataset and wherever else they are asked for."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vla_ros.converters.job import Job
from vla_ros.converters.picture import draw_report
from vla_ros.converters.report import ConversionReport
from vla_ros.converters.timeline import BagLine
from vla_ros.data_types import DatasetError

REPORT_PATH, PICTURE_PATH = "meta/conversion_report.json", "meta/conversion_report.png"


def report_files(report: ConversionReport, lines: Mapping[str, BagLine], picture: bool) -> dict[str, str | bytes]:
    """Return the report's files, by their paths within the dataset."""
    files: dict[str, str | bytes] = {REPORT_PATH: json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n"}
    if picture:
        title = f"{report.root.name}: {len(report.episodes)} episodes, {report.n_frames} frames"
        title += f", {len(report.refused)} bags refused" if report.refused else ""
        files[PICTURE_PATH] = draw_report(list(lines.values()), title)
    return files


@contextmanager
def reported(folder: Path | None, job: Job) -> Iterator[None]:
    """Write the report of a conversion that fails: it says what is wrong with every bag."""
    try:
        yield
    except DatasetError:
        if folder is not None:
            write_report(folder, job.report((), ()), job)
        raise


def write_report(folder: Path, report: ConversionReport, job: Job) -> None:
    """Write both files into a folder.

    Raises:
        DatasetError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in report_files(report, job.lines, picture=True).items():
            data = content.encode() if isinstance(content, str) else content
            (folder / Path(name).name).write_bytes(data)
    except OSError as reason:
        raise DatasetError(f"{folder}: the report cannot be written: {reason.strerror or reason}.") from reason
