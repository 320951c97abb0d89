"""The wheel: which names it installs, what it holds, and that `uec` works from it without a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCES = ("uec", "actors", "launch", "bench", "configs", "setup.py", "setup.cfg", "pyproject.toml")
BUNDLED = "uec/bundled"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel of a copy of the sources, so that the build leaves nothing in the checkout and finds nothing of an earlier build."""
    project, place = Path(__file__).resolve().parents[2], tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (project / name).is_dir():
            shutil.copytree(project / name, place / "source" / name, ignore=shutil.ignore_patterns("__pycache__", "results"))
        else:
            shutil.copy(project / name, place / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(place), "."], cwd=place / "source", check=True)
    (built,) = place.glob("*.whl")
    with zipfile.ZipFile(built) as file:
        yield file


@pytest.fixture(scope="module")
def installed(wheel: zipfile.ZipFile, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site-packages")
    wheel.extractall(folder)
    return folder


def python(installed: Path, program: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that finds `uec` in the installed wheel: PYTHONPATH comes before an editable installation."""
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    return subprocess.run([sys.executable, "-P", "-c", program], cwd=cwd, env=environment, capture_output=True, text=True)


def test_a_wheel_puts_only_the_name_uec_into_site_packages(wheel: zipfile.ZipFile) -> None:
    assert {name.split("/")[0] for name in wheel.namelist()} == {"uec", "uec_rl-0.1.0.dist-info"}
    assert wheel.read("uec_rl-0.1.0.dist-info/top_level.txt").split() == [b"uec"]


def test_a_wheel_holds_every_module_data_file_and_config(wheel: zipfile.ZipFile, project: Path) -> None:
    places = {"uec": "uec", "actors": f"{BUNDLED}/actors", "configs": f"{BUNDLED}/configs"}
    expected = {
        f"{place}/{path.relative_to(project / folder).as_posix()}"
        for folder, place in places.items()
        for path in (project / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert expected == {name for name in wheel.namelist() if name.startswith("uec/")}


def test_an_installed_wheel_imports_actors_and_lists_its_presets(installed: Path, tmp_path: Path) -> None:
    done = python(installed, "import uec, actors.driver.controller as c; print(uec.__file__, c.__file__)", tmp_path)
    assert done.stdout.split() == [f"{installed}/uec/__init__.py", f"{installed}/{BUNDLED}/actors/driver/controller.py"], done.stderr
    done = python(installed, "from uec.commands.cli import main; main(['config', 'algorithm'])", tmp_path)
    assert "grpo" in done.stdout and "reinforce_ada" in done.stdout, done.stderr
    done = python(installed, "from uec.doctor import versions; print(versions.pins(versions.SETUP_CFG)['ray'])", tmp_path)
    assert done.stdout.strip() == "2.60.0", done.stderr


def test_uec_bench_of_an_installed_wheel_says_that_it_needs_a_checkout(installed: Path, tmp_path: Path) -> None:
    done = python(installed, "from uec.commands.cli import main; raise SystemExit(main(['bench']))", tmp_path)
    assert done.returncode == 2 and "measures a checkout" in done.stderr


@pytest.mark.e2e
def test_an_actor_of_an_installed_wheel_finds_its_class_in_another_folder(installed: Path, tmp_path: Path) -> None:
    program = f"""
import uec, ray
from pathlib import Path
from actors.runtime.logs import GROUP, logged
from actors.runtime.slots import ActorSpec, Role
from actors.workers.image import ImageActor
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
spec = ActorSpec(Role.IMAGE, "image-0", ImageActor, (None, 0), cpus=0.1)
watched = ray.remote(concurrency_groups={{GROUP: 1}})(logged(spec.actor, Path({str(tmp_path / "log")!r})))
actor = watched.options(num_cpus=spec.cpus, runtime_env=spec.runtime_env)
modules = ray.get(actor.remote(*spec.args).__ray_call__.remote(lambda self: [__import__(name).__file__ for name in ("uec", "actors")]))
print(*modules)
"""
    done = python(installed, program, tmp_path)
    assert done.stdout.split() == [f"{installed}/uec/__init__.py", f"{installed}/{BUNDLED}/actors/__init__.py"], done.stderr
