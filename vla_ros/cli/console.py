"""What commands print: tables and progress, drawn with rich on a terminal and as plain lines elsewhere."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Advance = Callable[[str], None]
"""Called once per finished step, with a few words about it."""


def is_terminal() -> bool:
    """Return whether stdout is a terminal."""
    return sys.stdout.isatty()


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and values under a title."""
    if is_terminal():
        _print_rich_table(title, rows)
        return
    width = max((len(name) for name, _ in rows), default=0)
    print(title)
    for name, value in rows:
        print(f"  {name:<{width}}  {value}")


def print_path(what: str, path: object) -> None:
    """Print where something was written."""
    print(f"{what}: {path}", flush=True)


def say(sentence: str) -> None:
    """Print one line now, even when stdout is a pipe."""
    print(sentence, flush=True)


@contextmanager
def progress(label: str, total: int) -> Iterator[Advance]:
    """Yield a function that counts steps: a bar on a terminal, a line per step elsewhere."""
    if not is_terminal():
        yield _line_counter(label, total)
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns) as bar:
        task = bar.add_task(label, total=total, note="")
        yield lambda note: bar.update(task, advance=1, note=note)


def _line_counter(label: str, total: int) -> Advance:
    done = 0

    def advance(note: str) -> None:
        nonlocal done
        done += 1
        say(f"{label} {done}/{total}: {note}")

    return advance


def _print_rich_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold", show_header=False)
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    Console().print(table)
