"""Build of the ament_python package. Name, version and description are read from package.xml, their one place."""

from pathlib import Path
from xml.etree import ElementTree as ET

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
MANIFEST = ET.parse(ROOT / "package.xml").getroot()  # noqa: S314 - our own file
NAME = MANIFEST.findtext("name", "")
NODES = ("policy.policy_node", "sim.sim_robot_node", "sim.expert_node", "recorder.bag_recorder_node")


def runtime_dependencies() -> list[str]:
    """Return the packages of the ``[runtime]`` part of requirements.in, with their bounds."""
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("# [runtime]")) + 1
    end = next(i for i, line in enumerate(lines) if i > start and line.startswith("# ["))
    return [name for line in lines[start:end] if (name := line.partition("#")[0].strip())]


def shared_files() -> list[tuple[str, list[str]]]:
    """Return ``(share folder, files)`` for everything that is installed beside the code."""
    folders = [ROOT / name for name in ("launch", "config", "models")]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    by_folder: dict[str, list[str]] = {}
    for path in files:
        relative = path.relative_to(ROOT)
        by_folder.setdefault(f"share/{NAME}/{relative.parent}", []).append(str(relative))
    return sorted(by_folder.items())


setup(
    name=NAME,
    version=MANIFEST.findtext("version", ""),
    description=MANIFEST.findtext("description", ""),
    license=MANIFEST.findtext("license", ""),
    maintainer=MANIFEST.findtext("maintainer", ""),
    maintainer_email=MANIFEST.find("maintainer").get("email"),  # type: ignore[union-attr]
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={NAME: ["py.typed", "**/README.md", "dataset_tools/viewer/assets/*"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *shared_files(),
    ],
    python_requires=">=3.10,<3.13",
    install_requires=runtime_dependencies(),
    extras_require={"test": ["pytest"]},  # what makes `colcon test` choose pytest
    classifiers=[f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12)],
    zip_safe=False,
    entry_points={
        "console_scripts": [
            f"{NAME} = {NAME}.cli.main:main",
            *(f"{node.rpartition('.')[2]} = {NAME}.nodes.{node}:main" for node in NODES),
        ],
    },
)
