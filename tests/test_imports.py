"""The order of imports, which pyproject.toml gives to import-linter."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ("launch", "bench", "actors", "uec")


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_run_downwards_and_in_no_circle(project: Path) -> None:
    done = lint_imports(project)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "module, line, broken",
    [
        ("actors/weights/manifest.py", "def late():\n    import actors.driver.schedule", "Packages of actors/"),
        ("uec/config/schema.py", "if TYPE_CHECKING:\n    import uec.algorithm.batch", "Packages of uec/"),
        ("uec/unplaced/__init__.py", "", "Packages of uec/"),
        ("uec/rewards/graders.py", "import actors.runtime.logs", "In uec/ only the commands"),
        ("actors/runtime/logs.py", "import bench.table", "Commands, benches and launch programs"),
        ("actors/driver/schedule.py", "import actors.driver.controller", "No circle"),
    ],
)
def test_an_import_that_does_not_run_downwards_is_found(module: str, line: str, broken: str, project: Path, tmp_path: Path) -> None:
    for name in PACKAGES:
        shutil.copytree(project / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "results", "vendor"))
    shutil.copy(project / "pyproject.toml", tmp_path)
    file = tmp_path / module
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as source:
        source.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert [text for text in done.stdout.splitlines() if text.startswith(broken) and text.endswith("BROKEN")], done.stdout
