"""launch/verify_gpu.sh with stand-ins for nvidia-smi, make and uec, which record their calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UEC = """#!/usr/bin/env bash
echo "uec $*" >>calls
while [ $# -gt 1 ]; do shift; done
[ -e silent ] || echo '{}' >"$1"
exit "$(cat status)"
"""


class Checkout:
    """A folder with the script; `bin` comes first on the PATH."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.folder = folder
        (folder / "launch").mkdir()
        shutil.copy(project / "launch/verify_gpu.sh", folder / "launch")
        self.program("bin/nvidia-smi", "#!/bin/sh\nexit 0\n")
        self.program("bin/make", '#!/bin/sh\necho "make $*" >>calls\n')
        self.program(".venv/bin/uec", UEC)
        (folder / "status").write_text("0")

    def program(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        command = [str(self.folder / "launch/verify_gpu.sh"), *arguments]
        return subprocess.run(command, cwd=cwd or self.folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def checkout(project: Path, tmp_path: Path) -> Checkout:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return Checkout(project, folder)


def test_it_sets_up_for_gpus_checks_and_says_where_the_file_is(checkout: Checkout, tmp_path: Path) -> None:
    done = checkout.run("mine.json", cwd=tmp_path)  # relative to the caller's folder
    assert done.returncode == 0, done.stderr
    assert checkout.calls() == ["make --no-print-directory setup ACCEL=gpu", f"uec doctor --gpu --json {tmp_path / 'mine.json'}"]
    assert f"the results are in {tmp_path / 'mine.json'}" in done.stdout and (tmp_path / "mine.json").exists()


def test_a_red_check_keeps_its_status_and_the_file(checkout: Checkout) -> None:
    (checkout.folder / "status").write_text("1")
    done = checkout.run()
    assert done.returncode == 1 and "the results are in" in done.stdout
    assert [path.name[:4] for path in checkout.folder.glob("*.json")] == ["gpu-"]


def test_without_results_no_file_is_named(checkout: Checkout) -> None:
    (checkout.folder / "status").write_text("2")
    (checkout.folder / "silent").touch()
    done = checkout.run()
    assert done.returncode == 2 and "the results" not in done.stdout


def test_without_a_gpu_it_ends_with_status_2_before_the_set_up(checkout: Checkout) -> None:
    checkout.program("bin/nvidia-smi", "#!/bin/sh\nexit 9\n")
    done = checkout.run()
    assert (done.returncode, checkout.calls()) == (2, []) and "nvidia-smi finds no GPU" in done.stderr
    assert checkout.run("a", "b").returncode == 2
