"""``vla_ros dataset``: look at, check, edit and show a dataset; turn it back into bags."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.cli.arguments import add_command, natural_int
from vla_ros.cli.console import print_path, print_table, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from vla_ros.cli.arguments import Run, Subparsers
    from vla_ros.dataset_tools.rewrite import NewDataset

_IN_PLACE = "folder of the new dataset; without it the new one takes this name and the old one becomes NAME_old"


def add_parser(commands: "Subparsers") -> None:
    """Add the command and its actions."""
    group = commands.add_parser("dataset", help="inspect, check, edit and show a dataset, or turn it into bags")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    info = _action(actions, "info", run_info, "print what a dataset holds")
    info.add_argument("--json", action="store_true", help="print it as JSON")
    check = _action(actions, "validate", run_validate, "say what is wrong with a dataset, and what to do about it")
    check.add_argument("--policy", action="append", default=[], metavar="NAME", help="is to be trained; repeatable")
    check.add_argument("--json", action="store_true", help="print the findings as JSON")
    check.add_argument("--ci", action="store_true", help="exit with 1 where there is a finding as bad as --fail-on")
    check.add_argument("--fail-on", choices=("warn", "fail"), default="fail", help="of --ci: what counts")
    _add_edits(actions)


def _add_edits(actions: "Subparsers") -> None:
    merge = add_command(actions, "merge", run_merge, "put datasets one after the other into a new one")
    merge.add_argument("datasets", nargs="+", metavar="DATASET", help="folders, of the same features and frame rate")
    merge.add_argument("--output", required=True, metavar="DIR", help="folder of the new dataset")

    split = _action(actions, "split", run_split, "write parts of a dataset as datasets of their own")
    split.add_argument(
        "--splits",
        nargs="+",
        required=True,
        metavar="NAME=PART",
        help="ratio of the episodes, as train=0.8 val=0.2, or their numbers, as train=0-7 val=8,9",
    )
    split.add_argument("--output", metavar="DIR", help="DIR_NAME is written; the dataset's own folder by default")

    delete = _action(actions, "delete-episodes", run_delete, "write a dataset without some episodes", edits=True)
    delete.add_argument(
        "--episodes", required=True, metavar="LIST", help="their numbers, as 0,2,5-7, or a file of `dataset view`"
    )

    remove = _action(actions, "remove-feature", run_remove, "write a dataset without some features", edits=True)
    remove.add_argument("--features", nargs="+", required=True, metavar="KEY", help="their keys")

    tasks = _action(actions, "modify-tasks", run_tasks, "write a dataset with other instructions", edits=True)
    tasks.add_argument("--new-task", metavar="TEXT", help="of all episodes that are not named otherwise")
    tasks.add_argument(
        "--episode-task", action="append", default=[], metavar="EPISODE=TEXT", help="of one episode; repeatable"
    )
    tasks.add_argument("--rename", action="append", default=[], metavar="OLD=NEW", help="of an instruction; repeatable")

    video = _action(actions, "images-to-video", run_video, "write a dataset whose images become videos", edits=True)
    video.add_argument("--codec", choices=("av1", "h264"), default="av1", help="of the videos")
    video.add_argument("--crf", type=natural_int, metavar="N", help="quality, lower is better; the codec's default")

    _action(actions, "repair", run_repair, "keep the episodes before the first one that is not whole", edits=True)

    upgrade = add_command(actions, "upgrade", run_upgrade, "write a dataset of LeRobot v2.0 or v2.1 as v3.0")
    upgrade.add_argument("dataset", metavar="DATASET", help="its folder")
    upgrade.add_argument("--output", metavar="DIR", help=_IN_PLACE)


def _action(
    actions: "Subparsers", name: str, run: "Run", summary: str, *, edits: bool = False
) -> argparse.ArgumentParser:
    parser = add_command(actions, name, run, summary)
    parser.add_argument("dataset", metavar="DATASET", help="its folder")
    if edits:
        parser.add_argument("--output", metavar="DIR", help=_IN_PLACE)
    return parser


def run_info(arguments: argparse.Namespace) -> int:
    """Print what a dataset holds."""
    from vla_ros.dataset_tools.describe import describe
    from vla_ros.datasets import EpisodeDataset

    about = describe(EpisodeDataset(arguments.dataset))
    if arguments.json:
        say(json.dumps(about, indent=2, ensure_ascii=False))
        return 0
    shortest, median, longest = (length / about["fps"] for length in about["lengths"])
    rows = [
        ("robot", about["robot_type"] or "not said"),
        ("episodes", f"{about['episodes']}, of {shortest:.1f} to {longest:.1f} s, median {median:.1f} s"),
        ("frames", f"{about['frames']}, {about['duration_s']:.1f} s at {about['fps']} per second"),
        ("size", ", ".join(f"{name} {size / 1024**2:.1f} MB" for name, size in about["bytes"].items())),
        ("contract", about["contract_hash"] or "none"),
    ]
    print_table(f"{about['root']}  (LeRobotDataset {about['codebase_version']})", rows)
    features = about["features"].items()
    print_table(
        "features",
        [
            (key, f"{own['dtype']} {'×'.join(map(str, own['shape']))} {own.get('codec', '')}".rstrip())
            for key, own in features
        ],
    )
    print_table("tasks", [(task[:100], f"{count} episodes") for task, count in about["tasks"].items()])
    return 0


def run_validate(arguments: argparse.Namespace) -> int:
    """Print the findings; a dataset that fails is an answer, 1, not an error."""
    from dataclasses import asdict

    from vla_ros.data_types import DatasetError
    from vla_ros.dataset_tools.validation import FAMILIES, exit_code, validate

    root = Path(arguments.dataset)
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder.")
    findings = validate(root, arguments.policy)
    if arguments.json:
        content = {"root": str(root), "families": list(FAMILIES), "findings": [asdict(own) for own in findings]}
        say(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        for finding in findings:
            say(str(finding))
        failed = sum(own.severity == "fail" for own in findings)
        say(f"{root}: {failed} fail, {len(findings) - failed} warn, of {len(FAMILIES)} families of checks")
    return exit_code(findings, arguments.fail_on if arguments.ci else "fail")


def run_merge(arguments: argparse.Namespace) -> int:
    """Merge."""
    from vla_ros.dataset_tools.edits import merge

    return _said(merge([Path(root) for root in arguments.datasets], Path(arguments.output)))


def run_split(arguments: argparse.Namespace) -> int:
    """Split."""
    from vla_ros.dataset_tools.edits import split

    for new in split(Path(arguments.dataset), _splits(arguments.splits), _output(arguments)).values():
        _said(new)
    return 0


def run_delete(arguments: argparse.Namespace) -> int:
    """Delete episodes."""
    from vla_ros.dataset_tools.edits import delete_episodes

    given = Path(arguments.episodes)
    text = given.read_text(encoding="utf-8") if given.is_file() else arguments.episodes
    return _said(delete_episodes(Path(arguments.dataset), _episodes(text, "--episodes"), _output(arguments)))


def run_remove(arguments: argparse.Namespace) -> int:
    """Remove features."""
    from vla_ros.dataset_tools.edits import remove_feature

    return _said(remove_feature(Path(arguments.dataset), arguments.features, _output(arguments)))


def run_tasks(arguments: argparse.Namespace) -> int:
    """Change tasks."""
    from vla_ros.data_types import ConfigError
    from vla_ros.dataset_tools.edits import modify_tasks

    episodes: dict[int, str] = {}
    for name, text in _pairs(arguments.episode_task, "--episode-task", "EPISODE=TEXT").items():
        if not name.isdigit():
            raise ConfigError(f"--episode-task '{name}={text}': expected the number of an episode before the '='.")
        episodes[int(name)] = text
    renamed = _pairs(arguments.rename, "--rename", "OLD=NEW")
    return _said(
        modify_tasks(
            Path(arguments.dataset),
            new_task=arguments.new_task,
            episode_tasks=episodes,
            renamed=renamed,
            target=_output(arguments),
        )
    )


def run_video(arguments: argparse.Namespace) -> int:
    """Turn images into videos."""
    from vla_ros.dataset_tools.edits import images_to_video

    return _said(images_to_video(Path(arguments.dataset), arguments.codec, arguments.crf, _output(arguments)))


def run_repair(arguments: argparse.Namespace) -> int:
    """Keep the verified prefix."""
    from vla_ros.dataset_tools.repair import repair

    return _said(repair(Path(arguments.dataset), _output(arguments)))


def run_upgrade(arguments: argparse.Namespace) -> int:
    """Upgrade."""
    from vla_ros.dataset_tools.upgrade import upgrade

    return _said(upgrade(Path(arguments.dataset), _output(arguments)))


def _said(new: "NewDataset") -> int:
    from vla_ros.dataset_tools.rewrite import old_name

    for note in new.notes:
        say(f"note: {note}")
    say(f"{len(new.episodes)} episodes, {sum(episode.length for episode in new.episodes)} frames, verified")
    if new.replace:
        print_path("the dataset as it was", old_name(new.root))
    print_path("dataset", new.root)
    return 0


def _output(arguments: argparse.Namespace) -> Path | None:
    return None if arguments.output is None else Path(arguments.output)


def _splits(given: "Sequence[str]") -> "dict[str, float | Sequence[int]]":
    from vla_ros.data_types import ConfigError

    result: dict[str, float | Sequence[int]] = {}
    for name, part in _pairs(given, "--splits", "NAME=PART").items():
        if not name.replace("_", "").replace("-", "").isalnum():
            raise ConfigError(f"--splits '{name}={part}': a name has letters, digits, '_' and '-' only.")
        try:
            result[name] = float(part) if "." in part else _episodes(part, "--splits")
        except ValueError as reason:
            raise ConfigError(f"--splits '{name}={part}': expected a ratio as 0.8 or numbers as 0-7.") from reason
    return result


def _pairs(given: "Sequence[str]", option: str, expected: str) -> dict[str, str]:
    from vla_ros.data_types import ConfigError

    result: dict[str, str] = {}
    for entry in given:
        name, equals, text = entry.partition("=")
        if not equals or not name.strip() or not text.strip() or name.strip() in result:
            raise ConfigError(f"{option} '{entry[:100]}': expected {expected}, each once.")
        result[name.strip()] = text.strip()
    return result


def _episodes(text: str, option: str) -> list[int]:
    """Return the numbers of a list as 0,2,5-7; a file may hold them on several lines, and comments after a '#'."""
    from vla_ros.data_types import ConfigError

    plain = ",".join(line.partition("#")[0] for line in text.splitlines())
    numbers: list[int] = []
    for part in plain.replace(",", " ").split():
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or len(part) > 20 or int(last or first) < int(first):
            raise ConfigError(f"{option} '{part[:40]}': expected numbers of episodes, as 0,2,5-7.")
        if int(last or first) - int(first) > 10_000_000:
            raise ConfigError(f"{option} '{part[:40]}': no dataset has so many episodes.")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers:
        raise ConfigError(f"{option}: names no episode; expected numbers, as 0,2,5-7.")
    return numbers
