"""The result as a table for people."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.results import CaseResult, Figure, Ratio
from bench.statistics import extremes, median

_PIPE_WIDTH = 150  # rich would fold the table at 80 columns where there is no terminal


def print_table(cases: Sequence[CaseResult]) -> None:
    """Print every ratio with its spread over the repeats and its target, and the figures behind it."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    table = Table(title="ratios within one run: median (lowest – highest of the repeats)", title_justify="left")
    for heading in ("case", "ratio"):
        table.add_column(heading, overflow="fold")
    for heading in ("measured", "target", ""):
        table.add_column(heading, no_wrap=True)
    for case in cases:
        for ratio in case.ratios:
            table.add_row(case.name, ratio.name, _spread(ratio.values), _target(ratio), _verdict(ratio))
        for figure in case.figures:
            table.add_row("", f"[dim]{figure.name}[/dim]", f"[dim]{_figure(figure)}[/dim]", "", "")
        if case.error:
            table.add_row(case.name, f"[red]not measured: {case.error}[/red]", "", "", "")
        table.add_section()
    console.print(table)
    for case in cases:
        for note in case.notes:
            console.print(f"{case.name}: {note}", style="dim")


def _spread(values: Sequence[float | None]) -> str:
    low, high = extremes(values)
    middle = median(values)
    if middle is None or low is None or high is None:
        return "–"
    return f"{middle:.4g}" if low == high else f"{middle:.3g} ({low:.3g} – {high:.3g})"


def _figure(figure: Figure) -> str:
    return f"{_spread(figure.values)} {figure.unit}".rstrip()


def _target(ratio: Ratio) -> str:
    return "" if ratio.target is None else str(ratio.target)


def _verdict(ratio: Ratio) -> str:
    return {True: "[green]met[/green]", False: "[red]missed[/red]", None: ""}[ratio.met]
