"""``vla_ros convert``: bags become a LeRobotDataset v3."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command, contract_path
from vla_ros.cli.console import print_path, say

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers


def add_parser(commands: "Subparsers") -> None:
    """Add the command."""
    parser = add_command(commands, "convert", run, "turn bags, one per episode, into a dataset")
    parser.add_argument("--bags", required=True, metavar="DIR", help="folder that holds the bags, or one bag")
    parser.add_argument(
        "--contract", metavar="FILE", help="the robot's contract (the shipped MetaWorld robot's by default)"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="dataset folder to write")
    parser.add_argument("--image-storage", choices=("video", "png"), default="video", help="png is lossless and larger")
    parser.add_argument("--codec", choices=("av1", "h264"), default="av1", help="of the videos")
    parser.add_argument("--keep-failures", action="store_true", help="also take episodes whose task failed")
    parser.add_argument("--recover", action="store_true", help="take cut-off MCAP files up to the cut")
    parser.add_argument("--append", action="store_true", help="add to the dataset at --output")


def run(arguments: argparse.Namespace) -> int:
    """Convert and print where the dataset is."""
    from vla_ros.contract import load_contract
    from vla_ros.converters import convert_bags

    output = Path(arguments.output)
    contract = load_contract(contract_path(arguments.contract))
    report = convert_bags(
        find_bags(Path(arguments.bags)),
        contract,
        output,
        image_storage=arguments.image_storage,
        codec=arguments.codec,
        only_successful=not arguments.keep_failures,
        recover=arguments.recover,
        append=arguments.append,
    )
    say(str(report))
    print_path("dataset", output)
    return 0


def find_bags(folder: Path) -> list[Path]:
    """Return the bags in a folder, or the folder itself where it is a bag, by name.

    Raises:
        DatasetError: There is none.
    """
    from vla_ros.data_types import DatasetError

    def is_bag(path: Path) -> bool:
        return path.is_dir() and (
            (path / "metadata.yaml").is_file() or any(path.glob("*.mcap")) or any(path.glob("*.db3"))
        )

    if not folder.exists():
        raise DatasetError(f"{folder}: no such folder of bags.")
    if is_bag(folder) or folder.is_file():
        return [folder]
    bags = sorted(path for path in folder.iterdir() if is_bag(path))
    if not bags:
        raise DatasetError(f"{folder}: no bag in it; expected folders with a metadata.yaml and an .mcap or .db3 file.")
    return bags
