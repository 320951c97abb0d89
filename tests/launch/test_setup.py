"""`make` and the set-up script, with a stand-in for Python that records its calls and fails on request."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STAND_IN = """#!/usr/bin/env bash
echo "$*" >>calls
case "$*" in
*"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
*"install --editable"*) if [ -e slow ]; then sleep 60; fi; [ ! -e no-network ] || { echo "cannot reach the index"; exit 1; } ;;
*"import torchvision"*) [ ! -e broken ] || [ -e site/_uec_torchvision_cpu.py ] ;;
*purelib*) mkdir -p site; echo site ;;
*warm_up*) [ ! -e cold ] ;;
esac
"""


class Checkout:
    """A folder with the files that set-up reads, and the stand-in for Python."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.folder = folder
        for name in ("Makefile", "setup.cfg", "setup.py"):
            shutil.copy(project / name, folder / name)
        shutil.copytree(project / "launch", folder / "launch", ignore=shutil.ignore_patterns("__pycache__"))
        self.python = folder / "python-stand-in"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)

    def setup(self, accel: str = "cpu", **environment: str) -> subprocess.CompletedProcess[str]:
        (self.folder / "calls").unlink(missing_ok=True)
        env = {**os.environ, "PYTHON": str(self.python), **environment}
        return subprocess.run(["launch/setup.sh", accel], cwd=self.folder, env=env, capture_output=True, text=True)

    def calls(self, word: str) -> int:
        """Return how often Python was called with this word since the last set-up began."""
        path = self.folder / "calls"
        return sum(word in line for line in path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def checkout(project: Path, tmp_path: Path) -> Checkout:
    return Checkout(project, tmp_path)


def test_setup_installs_once_and_a_second_call_does_nothing(checkout: Checkout) -> None:
    first = checkout.setup()
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1] == "setup: ready"
    assert [checkout.calls(word) for word in ("-m venv", "install --editable .[cpu,dev]", "warm_up")] == [1, 1, 1]
    begin = time.perf_counter()
    second = checkout.setup()
    assert time.perf_counter() - begin < 0.5
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert not (checkout.folder / "calls").exists()


def test_changed_pins_install_again_into_the_same_environment(checkout: Checkout) -> None:
    checkout.setup()
    with open(checkout.folder / "setup.cfg", "a") as file:
        file.write("\n# another pin\n")
    assert checkout.setup().returncode == 0
    assert [checkout.calls(word) for word in ("-m venv", "install --editable")] == [0, 1]


def test_a_failed_installation_is_reported_and_repeated_from_the_start(checkout: Checkout) -> None:
    (checkout.folder / "no-network").touch()
    failed = checkout.setup()
    assert failed.returncode == 2
    assert "cannot reach the index" in failed.stderr and ".venv/setup.log" in failed.stderr
    assert checkout.calls("warm_up") == 0
    (checkout.folder / "no-network").unlink()
    again = checkout.setup()
    assert again.returncode == 0
    assert "an earlier set-up did not finish" in again.stdout
    assert checkout.calls("-m venv") == 1


def test_an_interrupted_installation_ends_at_once_and_is_repeated_from_the_start(checkout: Checkout) -> None:
    (checkout.folder / "slow").touch()
    env = {**os.environ, "PYTHON": str(checkout.python)}
    running = subprocess.Popen(["launch/setup.sh", "cpu"], cwd=checkout.folder, env=env, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and "installing" in running.stdout.readline()
    running.send_signal(signal.SIGINT)
    assert running.wait(10) == 130
    running.stdout.close()
    (checkout.folder / "slow").unlink()
    assert "did not finish" in checkout.setup().stdout
    assert checkout.calls("-m venv") == 1


def test_a_failed_warm_up_does_not_count_as_ready_but_keeps_the_packages(checkout: Checkout) -> None:
    (checkout.folder / "cold").touch()
    assert checkout.setup().returncode != 0
    (checkout.folder / "cold").unlink()
    assert checkout.setup().returncode == 0
    assert [checkout.calls(word) for word in ("-m venv", "warm_up")] == [0, 1]


def test_a_broken_environment_is_replaced(checkout: Checkout) -> None:
    checkout.setup()
    (checkout.folder / ".venv/bin/python").unlink()
    again = checkout.setup()
    assert again.returncode == 0
    assert "its Python does not run" in again.stdout
    assert checkout.calls("-m venv") == 1


def test_cpu_and_gpu_packages_do_not_share_an_environment(checkout: Checkout) -> None:
    checkout.setup("cpu")
    again = checkout.setup("gpu")
    assert again.returncode == 0
    assert "it was made for cpu" in again.stdout
    assert [checkout.calls(word) for word in ("-m venv", "install --editable .[gpu,dev]", "torchvision")] == [1, 1, 0]
    assert checkout.setup("auto").stdout == ""  # the environment is ready


def test_torchvision_is_repaired_only_where_it_is_broken(checkout: Checkout) -> None:
    assert "torchvision" not in checkout.setup().stdout
    assert not (checkout.folder / "site").exists()
    (checkout.folder / "broken").touch()
    shutil.rmtree(checkout.folder / ".venv")
    output = checkout.setup().stdout
    assert sum("torchvision" in line for line in output.splitlines()) == 1
    assert {path.name for path in (checkout.folder / "site").iterdir()} == {"_uec_torchvision_cpu.py", "uec_torchvision_cpu.pth"}


@pytest.mark.parametrize(
    ("environment", "fragments"),
    [
        ({"PYTHON": "/bin/false"}, ["no Python 3.11 or 3.12 found (tried: /bin/false)", "apt-get install", "make setup PYTHON="]),
        ({"CXX": "no-such-compiler"}, ["no C++ compiler: no-such-compiler", "apt-get install g++"]),
    ],
)
def test_a_missing_requirement_of_the_machine_is_named(checkout: Checkout, environment: dict[str, str], fragments: list[str]) -> None:
    failed = checkout.setup(**environment)
    assert failed.returncode == 2
    for fragment in fragments:
        assert fragment in failed.stderr
    assert not (checkout.folder / ".venv").exists()


def test_an_unknown_accelerator_is_refused(checkout: Checkout) -> None:
    assert "ACCEL=tpu: expected cpu or gpu" in checkout.setup("tpu").stderr


# --- make


def test_make_help_explains_every_target(project: Path) -> None:
    targets = re.search(r"^\.PHONY: (.*)$", (project / "Makefile").read_text(), re.MULTILINE)
    assert targets is not None
    output = subprocess.run(["make"], cwd=project, capture_output=True, text=True, check=True).stdout
    for target in targets[1].split():
        assert re.search(rf"^  make {target} +\S", output, re.MULTILINE), target


def make_train(checkout: Checkout, program: str, *words: str) -> "subprocess.Popen[str]":
    """Start `make train-llm` in a prepared checkout with a stand-in for uec."""
    checkout.setup()
    uec = checkout.folder / ".venv/bin/uec"
    uec.write_text(program)
    uec.chmod(0o755)
    # `make test` sets these variables, with which an inner make would print each folder that it enters.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.Popen(
        ["make", "train-llm", *words], cwd=checkout.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_train_llm_passes_the_settings_on(checkout: Checkout) -> None:
    run = make_train(checkout, '#!/bin/sh\nprintf "<%s>" "$@"', 'ARGS=algorithm=grpo data.template="a b"')
    assert run.communicate()[0] == "<train><configs/llm.yaml><algorithm=grpo><data.template=a b>"
    assert run.returncode == 0


def test_train_llm_reports_the_status_of_a_failed_run(checkout: Checkout) -> None:
    run = make_train(checkout, "#!/bin/sh\nexit 1")
    assert "Error 1" in run.communicate()[1]
    assert run.returncode == 2  # make exits with 2 after any failure


def test_a_signal_to_make_reaches_the_run_which_can_finish_its_work(checkout: Checkout) -> None:
    run = make_train(checkout, "#!/bin/bash\ntrap 'sleep 0.5; echo saved; exit 143' TERM\necho begun\nwhile :; do sleep 0.1; done")
    assert run.stdout is not None and run.stdout.readline() == "begun\n"
    run.terminate()
    assert run.stdout.readline() == "saved\n"
    run.communicate()
    assert run.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM, 2)


# --- the real environment


@pytest.mark.e2e
def test_the_shim_alone_makes_torchvision_importable(project: Path) -> None:
    program = "import sys; sys.path[:0] = sys.argv[1:]; import _uec_torchvision_cpu, torchvision.transforms, torchvision.ops"
    site = next(path for path in sys.path if path.endswith("site-packages"))
    command = [sys.executable, "-S", "-c", program, str(project / "launch/torchvision_cpu_shim"), site]  # -S: no .pth file is loaded
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
