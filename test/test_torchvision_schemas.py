"""torchvision imports beside a torch that its operators do not fit, by a hook of the environment alone."""

import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HOOK = ROOT / "scripts" / "torchvision_schemas.py"

NO_LIBRARY = """
import sys, torch
def refuse(path): raise OSError("built for another torch")
torch.ops.load_library = refuse
sys.meta_path = [finder for finder in sys.meta_path if "torchvision_schemas" not in str(finder)]
"""
HOOKED = f"""
import importlib.util as u
s = u.spec_from_file_location("h", {str(HOOK)!r})
s.loader.exec_module(u.module_from_spec(s))
"""

AGAIN = """
h = u.module_from_spec(s)
s.loader.exec_module(h)
h.declare_missing_schemas()  # a second definition of one that is known would be an error
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)


def test_without_the_hook_torchvision_fails_where_its_library_does_not_load() -> None:
    done = run(NO_LIBRARY + "import torchvision")
    assert done.returncode
    assert "operator torchvision::nms does not exist" in done.stderr


def test_with_the_hook_models_work_operators_fail_and_known_schemas_are_left_alone() -> None:
    code = """
from torchvision import models, ops
assert models.resnet18(weights=None).eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 1000)
try:
    ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
except RuntimeError as reason:
    print("refused:", reason)
"""
    done = run(NO_LIBRARY + HOOKED + code + AGAIN)
    assert done.returncode == 0, done.stderr
    assert "refused: Couldn't load custom C++ ops" in done.stdout


def test_the_hook_imports_nothing_until_torchvision_is_imported() -> None:
    done = run("import sys\n" + HOOKED + "assert 'torch' not in sys.modules")
    assert done.returncode == 0, done.stderr


def test_the_package_knows_nothing_of_the_operators() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in sorted((ROOT / "vla_ros").rglob("*.py"))}
    assert not [str(path) for path, text in texts.items() if "torchvision::" in text or "qnms" in text]


def test_the_setup_puts_the_hook_into_the_environment(tmp_path, monkeypatch) -> None:
    spec = importlib.util.spec_from_file_location("setup_environment", ROOT / "scripts" / "setup_environment.py")
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    packages = tmp_path / "site-packages"
    packages.mkdir()
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho {packages}\n", encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.setattr(setup, "PYTHON", python)
    setup.install_hooks()
    assert (packages / "torchvision_schemas.py").read_bytes() == HOOK.read_bytes()
    assert (packages / "torchvision_schemas.pth").read_text(encoding="utf-8") == "import torchvision_schemas\n"


def test_torchvision_is_a_dependency_of_the_package_as_torch_is() -> None:
    runtime = (ROOT / "requirements.in").read_text(encoding="utf-8").partition("# [runtime]")[2].partition("# [")[0]
    assert {"torch", "torchvision"} <= {line.partition("==")[0] for line in runtime.splitlines()}
    assert "<exec_depend>python3-torchvision</exec_depend>" in (ROOT / "package.xml").read_text(encoding="utf-8")
    assert "| torchvision |" in (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
