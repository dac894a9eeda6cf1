"""Every shell command of README.md and docs/*.md: whole in blocks, in running text perhaps a part of one."""

import argparse
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
PROGRAMS = frozenset(
    "apt-get cd colcon git ln make mkdir pip python python3 ros2 rosdep sed source touch vla_ros".split()  # noqa: SIM905
)
FENCE = re.compile(r"^ *```(\w*) *$")
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
FILES_OF_OTHERS = ("python", "yaml", "toml", "json", "xml")
"""Languages of blocks that are files."""


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        page: File that holds it, relative to the repository.
        text: The command, one line, without its comment.
        whole: Whether it stands in a block; one in running text may leave out arguments.
    """

    page: str
    text: str
    whole: bool

    @property
    def words(self) -> list[str]:
        """As a shell splits it."""
        return shlex.split(self.text)

    @property
    def program(self) -> str:
        """Its first word."""
        return self.text.split(maxsplit=1)[0]

    def __str__(self) -> str:
        return f"{self.page}: {self.text}"


@cache
def all_commands() -> tuple[Command, ...]:
    """Return the commands of every page, in order."""
    return tuple(command for page in PAGES for command in commands_of(page))


def commands_of(page: str) -> Iterator[Command]:
    """Yield the commands of a page."""
    block: str | None = None  # language of the fenced block that a line is in
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        fence = FENCE.match(line)
        if fence:
            block = fence.group(1) if block is None else None
        elif block in FILES_OF_OTHERS:
            continue
        elif block is not None or line.startswith("    "):
            yield from _of_block(page, line, only_commands=block == "bash", is_text=block == "text")
        else:
            found = (part for code in INLINE.findall(line) for part in _parts(code))
            yield from (Command(page, part, whole=False) for part in found if _is_command(part) and " " in part)


def _of_block(page: str, line: str, *, only_commands: bool, is_text: bool) -> Iterator[Command]:
    line = line.strip()
    if is_text and not line.startswith("$ "):  # what a command printed
        return
    for part in _parts(line.removeprefix("$ ")):
        if _is_command(part):
            yield Command(page, part, whole=True)
        else:
            assert not only_commands, f"{page}: '{part}' in a block of bash begins with no known program"


def _parts(line: str) -> list[str]:
    without_comment = re.sub(r"(^|\s)#\s.*", "", line)
    return [part.strip() for part in without_comment.split("&&") if part.strip()]


def _is_command(text: str) -> bool:
    return text.split(maxsplit=1)[0] in PROGRAMS


def check_part(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Refuse words that are no part of a command: an unknown subcommand or option.

    Raises:
        ValueError: Names the word.
    """
    for word in words:
        choices = next((a.choices for a in parser._actions if isinstance(a, argparse._SubParsersAction)), None)
        option = word.partition("=")[0]
        if word.startswith("-") and option not in parser._option_string_actions:
            raise ValueError(f"'{parser.prog}' has no option {option}")
        if choices is not None:
            if word not in choices:
                raise ValueError(f"'{parser.prog}' has no command '{word}'")
            parser = choices[word]
