"""``python -m bench``: run the cases, print a table, write ``out/bench/result.json``."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.arms import Bench
from bench.cases import CASES
from bench.cases.case import Case
from bench.results import CaseResult, load_average, save_result
from bench.table import print_table
from vla_ros.data_types import UserError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    top = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = ", ".join(CASES)
    top.add_argument(
        "--case", action="append", choices=tuple(CASES), metavar="NAME", help=f"only this one; may be repeated: {names}"
    )
    top.add_argument(
        "--seconds", type=_positive, metavar="S", help="how long every arm measures (by default, each case's own)"
    )
    top.add_argument(
        "--repeats", type=_count, metavar="N", help="how often every arm is measured (by default, each case's own)"
    )
    top.add_argument("--minutes", type=_positive, metavar="M", help="length of ticks_lost, which is 30 s by default")
    top.add_argument("--output", type=Path, default=Path("out/bench"), metavar="DIR", help="default: out/bench")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return 0, or 1 when a case could not be measured. A missed target is a result, not an error."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    command = shlex.join(["python", "-m", "bench", *given])
    results: list[CaseResult] = []
    try:
        with Bench(options.output / "work", options.minutes) as bench:
            for name in options.case or CASES:
                results.append(run_case(bench, CASES[name], options.seconds, options.repeats))
                save_result(results, command, options.output / "result.json")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print_table(results)
    print(f"written: {options.output / 'result.json'}")
    return 1 if any(result.error for result in results) else 0


def run_case(bench: Bench, case: Case, seconds: float | None, repeats: int | None) -> CaseResult:
    """Run one case; what a user can mend becomes its error, so that the others still run."""
    seconds, repeats = seconds or case.seconds, repeats or case.repeats
    if case.name == "ticks_lost" and bench.minutes is not None:
        seconds = 60.0 * bench.minutes
    print(f"{case.name}: {case.title}, {repeats} × {seconds:g} s per arm", flush=True)
    before = load_average()
    try:
        found = case.run(bench, seconds, repeats)
    except UserError as error:
        return CaseResult(
            case.name, case.title, seconds, repeats, load_average=(before, load_average()), error=str(error)
        )
    return CaseResult(
        case.name,
        case.title,
        seconds,
        repeats,
        found.ratios,
        found.figures,
        found.notes,
        (before, load_average()),
    )


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
