"""``vla_ros convert``: bags become a LeRobotDataset v3."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command
from vla_ros.cli.console import print_path, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers
    from vla_ros.contract import RobotContract
    from vla_ros.converters import ConversionReport


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(commands, "convert", run, "turn bags, one per episode, into a dataset")
    parser.add_argument("--bags", required=True, metavar="DIR", help="folder that holds the bags, or one bag")
    parser.add_argument(
        "--contract", metavar="FILE", help="the robot's contract (the bags' own contract.yaml by default)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="dataset folder to write")
    parser.add_argument("--image-storage", choices=("video", "png"), default="video", help="png is lossless and larger")
    parser.add_argument("--codec", choices=("av1", "h264"), default="av1", help="of the videos")
    parser.add_argument("--keep-failures", action="store_true", help="also take episodes whose task failed")
    parser.add_argument(
        "--clock",
        choices=("auto", "header", "receive"),
        default="auto",
        help="auto: header stamps, whose clocks must agree; header: header stamps, whatever their delays; "
        "receive: the time of receiving",
    )
    parser.add_argument("--recover", action="store_true", help="take what is whole of damaged and cut-off bags")
    parser.add_argument(
        "--instruction",
        action="append",
        default=[],
        metavar="[TASK=]TEXT",
        help="instruction of episodes that have none, of one task by its name in episode.json or of all; repeatable",
    )
    parser.add_argument(
        "--report", metavar="DIR", help="also write the report here, as JSON and picture, even if no bag converts"
    )
    parser.add_argument(
        "--late-samples",
        metavar="FILE",
        help="leave late samples out of the frames that a live node assembled without them: a conversion_report.json, "
        "or a bag with the node's ~/late_samples; by default every sample is at its place",
    )
    parser.add_argument("--append", action="store_true", help="add to the dataset at --output")


def run(arguments: argparse.Namespace) -> int:
    """Convert and print where the dataset is."""
    from vla_ros.contract import load_contract
    from vla_ros.converters import own_contract
    from vla_ros.converters.report_files import PICTURE_PATH

    output, bags = Path(arguments.output), find_bags(Path(arguments.bags))
    contract = own_contract(bags) if arguments.contract is None else load_contract(Path(arguments.contract))
    try:
        report = _convert(arguments, bags, contract, output)
    except KeyboardInterrupt:
        for folder in output.parent.glob(f".{output.name}.partial-*"):
            print(f"what was finished stays in {folder}; the same command goes on with it", file=sys.stderr)
        raise
    say(str(report))
    print_path("report", output / PICTURE_PATH)
    print_path("dataset", output)
    return 0


def _convert(
    arguments: argparse.Namespace, bags: list[Path], contract: "RobotContract", output: Path
) -> "ConversionReport":
    from vla_ros.converters import convert_bags

    return convert_bags(
        bags,
        contract,
        output,
        image_storage=arguments.image_storage,
        codec=arguments.codec,
        only_successful=not arguments.keep_failures,
        recover=arguments.recover,
        append=arguments.append,
        clock=arguments.clock,
        instructions=_instructions(arguments.instruction),
        picture=True,
        report_folder=None if arguments.report is None else Path(arguments.report),
        late_samples=None if arguments.late_samples is None else Path(arguments.late_samples),
    )


def _instructions(given: list[str]) -> dict[str, str]:
    """Return task name → instruction; "" → that of all tasks."""
    from vla_ros.data_types import ConfigError

    result: dict[str, str] = {}
    for entry in given:
        name, _, text = entry.rpartition("=")
        if not text.strip() or name.strip() in result:
            raise ConfigError(f"--instruction '{entry}': expected TEXT or TASK=TEXT, each task once.")
        result[name.strip()] = text.strip()
    return result


def find_bags(folder: Path) -> list[Path]:
    """Return the bags in a folder, or the folder itself where it is a bag, by name.

    Raises:
        DatasetError: There is none.
    """
    from vla_ros.bags import bags_in, is_bag
    from vla_ros.data_types import DatasetError

    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder of bags.")
    if folder.is_file() or is_bag(folder):
        return [folder]
    bags = bags_in(folder)
    if not bags:
        raise DatasetError(f"{folder}: no bag in it; expected folders with a metadata.yaml and an .mcap or .db3 file.")
    return bags
