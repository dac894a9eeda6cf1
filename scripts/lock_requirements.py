#!/usr/bin/env python3
"""Write requirements.txt: every version, direct and indirect, that requirements.in resolves to."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = (
    "# Written by `make lock` on CPython {version} from requirements.in. Versions are pinned here and nowhere else.\n"
)


def main() -> None:
    """Resolve in an empty temporary environment, install nothing, and write what pip would have installed."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        report = Path(folder, "report.json")
        pip = [
            f"{folder}/bin/python",
            "-m",
            "pip",
            "install",
            "--dry-run",
            "--ignore-installed",
            "--report",
            str(report),
        ]
        subprocess.run([*pip, "-r", str(ROOT / "requirements.in")], check=True)
        packages = [item["metadata"] for item in json.loads(report.read_text(encoding="utf-8"))["install"]]
    # A local version label (+cpu) names a build, not a version: another machine gets the same version in its own build.
    lines = sorted(f"{package['name'].lower()}=={package['version'].split('+')[0]}" for package in packages)
    wanted = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    lines += [line for line in wanted if line.startswith("# no-deps: ")]
    header = HEADER.format(version=".".join(map(str, sys.version_info[:2])))
    (ROOT / "requirements.txt").write_text(header + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
