"""``vla_ros policies``: which architectures there are; what each sees, predicts, weighs and costs; a picture of one."""

import argparse
import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vla_ros.cli.arguments import DEFAULT_CONTRACT, add_command, contract_path, positive_int
from vla_ros.cli.console import print_table, say
from vla_ros.data_types import ConfigError

if TYPE_CHECKING:
    from vla_ros.cli.arguments import Subparsers
    from vla_ros.contract import RobotContract
    from vla_ros.evaluation.policy_description import PolicyOptions

_DESCRIPTION = (
    "Build a policy for a robot, measure it and print what it is: inputs, outputs, parameters, FLOPs of a prediction, "
    "goals, loss and configuration. FLOPs are two for each multiply-add of matrix products, convolutions and "
    "attention, at batch 1, all sampling or decoding passes included; norms, activations, softmax and the processors "
    "do not count."
)


_DRAWING = (
    "Let a policy predict from an example observation (random numbers), and draw its tokens, who may attend to whom "
    "and the attention of some layers. A policy by name has random weights; that of a checkpoint's folder has its own."
)


def add_parser(commands: "Subparsers") -> None:
    """Add the command and its three actions."""
    group = commands.add_parser("policies", help="list the architectures, describe one, or draw one")
    actions = group.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = add_command(actions, "list", run_list, "print the name and purpose of every policy, and options files")
    describe = add_command(
        actions, "describe", run_describe, "print what a policy sees, predicts, weighs and costs", _DESCRIPTION
    )
    describe.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="a policy (with its own defaults) or an options file, as `policies list` has them",
    )
    describe.add_argument(
        "--recipe",
        dest="described_recipe",
        metavar="FILE",
        help="a training recipe in place of NAME: its policy, inputs and processors",
    )
    draw = add_command(actions, "draw", run_draw, "draw a policy's tokens, mask and attention as a picture", _DRAWING)
    draw.add_argument(
        "name", metavar="NAME", help="a policy, an options file as `policies list` has them, or a checkpoint's folder"
    )
    draw.add_argument("--output", metavar="FILE", default="policy.png", help="PNG to write (policy.png by default)")
    for parser in (describe, draw):
        _add_choices(parser)
    for parser in (listing, describe):
        parser.add_argument("--json", action="store_true", help="print JSON")


def _add_choices(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--options", metavar="FILE", help="YAML of a policy's options, as in config/policies")
    parser.add_argument(
        "--contract", metavar="FILE", help=f"the robot's contract (the shipped {DEFAULT_CONTRACT} by default)"
    )
    parser.add_argument(
        "--inputs", metavar="KEY", nargs="+", help="what it sees (all cameras and observation.state by default)"
    )
    parser.add_argument(
        "--image-size",
        metavar=("HEIGHT", "WIDTH"),
        nargs=2,
        type=positive_int,
        help="resize images first, as a recipe's normalisation.image_size does (the contract's sizes by default)",
    )


def run_list(arguments: argparse.Namespace) -> int:
    """Print the names with a summary each; one whose package is broken is listed with the reason."""
    from vla_ros.evaluation.policy_description import shipped_options, summary
    from vla_ros.policies.registry import policy_names

    rows = [(name, summary(name)) for name in policy_names()]
    files = [stem for stem in shipped_options() if stem not in policy_names()]
    if arguments.json:
        say(json.dumps([{"name": name, "summary": text} for name, text in rows], indent=2))
        return 0
    print_table("policies", rows)
    say(f"options files, which `describe` takes too: {', '.join(files)}")
    return 0


def run_describe(arguments: argparse.Namespace) -> int:
    """Build one policy, measure it and print it."""
    from vla_ros.contract import load_contract
    from vla_ros.evaluation.policy_description import describe_policy, find_policy, find_recipe

    if (arguments.name is None) == (arguments.described_recipe is None) or (
        arguments.described_recipe and arguments.options
    ):
        raise ConfigError("policies describe: give a policy's NAME, with --options if you like, or --recipe FILE.")
    processing, keys, contract = None, arguments.inputs, arguments.contract
    if arguments.described_recipe is not None:
        chosen, recipe_keys, processing, recipe_contract = find_recipe(Path(arguments.described_recipe))
        keys, contract = keys or recipe_keys, contract or recipe_contract
    else:
        chosen = find_policy(arguments.name, None if arguments.options is None else Path(arguments.options))
    size = None if arguments.image_size is None else (arguments.image_size[0], arguments.image_size[1])
    described = describe_policy(chosen, load_contract(contract_path(contract)), keys, size, processing)
    if arguments.json:
        say(json.dumps({"name": arguments.name or arguments.described_recipe, **described}, indent=2, default=str))
        return 0
    _print(described)
    return 0


def run_draw(arguments: argparse.Namespace) -> int:
    """Build or load one policy, and draw it."""
    from vla_ros.evaluation.policy_picture import policy_to_draw, save_policy_picture

    output = Path(arguments.output)
    if output.suffix != ".png":
        raise ConfigError(f"--output {output}: expected the name of a .png file.")
    if Path(arguments.name).is_dir():
        from vla_ros.checkpoint import load_checkpoint

        given = [
            name for name in ("options", "contract", "inputs", "image_size") if getattr(arguments, name) is not None
        ]
        if given:
            raise ConfigError(f"--{given[0].replace('_', '-')}: a checkpoint has its own; remove it.")
        policy = load_checkpoint(arguments.name).policy
    else:
        policy = policy_to_draw(*_chosen(arguments))
    drawn = save_policy_picture(output, policy, f"{policy.name}: {arguments.name}")
    say(f"{output}: {policy.name}, {sum(count for _, count in drawn.segments)} tokens")
    print_table("tokens", [(name, str(count)) for name, count in drawn.segments])
    return 0


def _chosen(arguments: argparse.Namespace) -> "tuple[PolicyOptions, RobotContract, Any, tuple[int, int] | None]":
    from vla_ros.contract import load_contract
    from vla_ros.evaluation.policy_description import find_policy

    chosen = find_policy(arguments.name, None if arguments.options is None else Path(arguments.options))
    size = None if arguments.image_size is None else (arguments.image_size[0], arguments.image_size[1])
    return chosen, load_contract(contract_path(arguments.contract)), arguments.inputs, size


def _print(described: dict[str, Any]) -> None:
    from vla_ros.policies.registry import policy_class

    options = Path(described["options"]).name if described["options"] else "its own defaults"
    say(f"{described['policy']} with {options}, for {described['robot']}: {described['summary']}")
    print_table("inputs", [(entry["key"], _input_text(entry)) for entry in described["inputs"]])
    print_table("outputs", _output_rows(described["outputs"]))
    print_table("processors, from robot to policy", _step_rows(described["processors"]))
    print_table("parameters", [(part, f"{count:,}") for part, count in described["parameters"].items()])
    print_table("FLOPs of a prediction", _flop_rows(described["flops"]))
    if described["layout"]:
        print_table("sequence, in order", [(row["places"], _span_text(row)) for row in described["layout"]])
    print_table("goals", _goal_rows(described["goals"]))
    names = ("n_obs_steps", "action_horizon", "n_action_steps", "objective")
    print_table("steps and loss", [(name, str(described[name] or "not said")) for name in names])
    chosen = [field for field in described["config"] if field["from"] != "contract"]
    print_table("configuration", [(field["name"], _field_text(field)) for field in chosen])
    say(inspect.getdoc(policy_class(described["policy"]).config_class) or "")


def _input_text(entry: dict[str, Any]) -> str:
    return f"{entry['kind']}, {entry['dtype']} {entry['shape']}{'' if entry['required'] else ', may be missing'}"


def _output_rows(outputs: dict[str, Any]) -> list[tuple[str, str]]:
    numbers = zip(outputs["names"], outputs["units"], strict=True)
    bounds = "bounded to [-1, 1]" if outputs["bounded"] else "not bounded"
    return [
        ("action", f"{outputs['dtype']} {outputs['shape']}, normalised, {bounds}"),
        ("numbers", ", ".join(name if unit == "1" else f"{name} [{unit}]" for name, unit in numbers)),
        ("meaning", outputs["representation"]),
    ]


def _step_rows(steps: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return what the robot has, and of every step what it does and which shapes it changes."""
    rows = [("robot", ", ".join(f"{key} {shape}" for key, shape in steps[0]["before"].items()))]
    for number, step in enumerate(steps, 1):
        changed = [
            f"{key} {before} → {step['after'][key]}"
            for key, before in step["before"].items()
            if step["after"][key] != before
        ]
        rows.append((f"{number} {step['name']}", "; ".join([step["summary"], *changed])))
    return rows


def _flop_rows(flops: dict[str, Any]) -> list[tuple[str, str]]:
    if flops["first"] is None:
        return [("not counted", flops["reason"])]
    if flops["later"] is None:
        return [("every one", f"{flops['first']:,}")]
    return [("all frames new, no state", f"{flops['first']:,}"), ("a tick later, with state", f"{flops['later']:,}")]


def _span_text(row: dict[str, Any]) -> str:
    return f"{row['name']}: {row['tokens']} tokens, block {row['block']}, {row['attention']} in it"


def _goal_rows(goals: dict[str, Any]) -> list[tuple[str, str]]:
    takes = [
        f"instruction ({goals['text'] or 'tokens; option text is not set'})" if goal == "instruction" else "goal image"
        for goal in goals["takes"]
    ]
    kinds = goals["can_take"]["instruction"]
    can_take = [f"instruction ({', '.join(kinds)})"] if kinds else []
    can_take += ["goal image"] if goals["can_take"]["goal_image"] else []
    return [("takes", ", ".join(takes) or "none"), ("can take", ", ".join(can_take) or "none")]


def _field_text(field: dict[str, Any]) -> str:
    description = f": {field['description']}" if field["description"] else ""
    return f"{field['value']!r} ({field['from']}), {field['type']}{description}"
