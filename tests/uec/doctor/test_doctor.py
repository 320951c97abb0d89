"""`uec doctor`: an injected fault for each red line, and the resulting report and exit status."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections import namedtuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from uec.commands import cli
from uec.doctor import console, devices, machine, native, ray_state, storage, versions
from uec.doctor.check import Check, Status, fail, note, ok
from uec.errors import BadInput

OK, NOTE, FAIL = Status.OK, Status.NOTE, Status.FAIL
Usage = namedtuple("Usage", "total used free")


def fault(check: Check, *words: str) -> None:
    """Check that the line is red, and that it has a finding and a fix with these words."""
    assert check.status is FAIL
    assert check.fix
    for word in words:
        assert word in check.found + check.fix, (word, check)


# --- versions


def test_this_installation_is_what_setup_cfg_pins() -> None:
    found = [versions.python_version(), *versions.package_versions(), versions.plugin()]
    assert [(check.name, check.found) for check in found if check.status is not OK] == []
    assert {"torch", "transformers", "deepspeed", "ray", "packages"} <= {check.name for check in found}


def test_injected_another_python_is_red(monkeypatch) -> None:
    monkeypatch.setattr(sys, "version_info", namedtuple("V", "major minor micro releaselevel serial")(3, 13, 1, "final", 0))
    fault(versions.python_version(), "3.13.1", "3.11 or 3.12")


def test_injected_another_version_is_red_and_names_both(monkeypatch) -> None:
    monkeypatch.setattr(versions.importlib.metadata, "version", lambda name: "2.59.0" if name == "ray" else version(name))
    red = [check for check in versions.package_versions() if check.status is FAIL]
    assert [check.name for check in red] == ["ray"]
    fault(red[0], "2.59.0", "2.60.0", "make setup")


def test_injected_a_missing_package_is_red_and_a_local_build_is_not(monkeypatch) -> None:
    def found(name: str) -> str:
        if name == "omegaconf":
            raise PackageNotFoundError(name)
        return version(name) + ("+cpu" if name == "transformers" else "")

    monkeypatch.setattr(versions.importlib.metadata, "version", found)
    red = [check for check in versions.package_versions() if check.status is FAIL]
    assert [check.name for check in red] == ["packages"]
    fault(red[0], "omegaconf missing, not 2.4.0")


def test_injected_an_installation_without_our_entry_point_is_red(monkeypatch) -> None:
    monkeypatch.setattr(versions.importlib.metadata, "entry_points", lambda **_: ())
    fault(versions.plugin(), "uec_weights", "pip install")


# --- devices


def test_injected_a_processor_without_avx2_is_red_and_the_best_set_is_named(monkeypatch, tmp_path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(devices, "CPUINFO", cpuinfo)
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu sse4_2\n")
    fault(devices.processor(), "4 CPUs, without AVX2")
    cpuinfo.write_text("processor : 0\nflags\t\t: fpu avx2 avx512f\n")
    assert devices.processor() == ok("cpu", "4 CPUs, avx512f")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert devices.processor().status is NOTE
    assert "of which the container may use 1.5" in devices.processor().found


def test_injected_gpu_packages_without_a_gpu_are_red_and_an_unused_gpu_is_yellow(monkeypatch) -> None:
    monkeypatch.setattr(devices, "driver_gpus", lambda: [])
    monkeypatch.setattr(devices, "gpu_packages", lambda: True)
    fault(devices.gpu(), "nvidia-smi")
    monkeypatch.setattr(devices, "driver_gpus", lambda: ["NVIDIA H100 with 81559 MiB, driver 570.86"])
    assert devices.gpu() == ok("gpu", "NVIDIA H100 with 81559 MiB, driver 570.86")
    monkeypatch.setattr(devices, "gpu_packages", lambda: False)
    assert devices.gpu().status is NOTE and "ACCEL=gpu" in devices.gpu().fix


def test_gpus_are_read_from_nvidia_smi_and_a_failing_driver_gives_none(monkeypatch, tmp_path) -> None:
    program = tmp_path / "nvidia-smi"  # stands in for the driver's
    program.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559 MiB, 570.86.15'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert devices.driver_gpus() == ["NVIDIA H100 80GB HBM3 with 81559 MiB, driver 570.86.15"]
    program.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not talk to the driver'\nexit 9\n")
    assert devices.driver_gpus() == []


def test_injected_little_memory_is_red(monkeypatch, make_config) -> None:
    monkeypatch.setattr(devices, "free_memory", lambda: (1 << 30, 4 << 30))
    # two actors of 700 MiB, 256 MiB of Ray's, 128 MiB of cache, and 20 bytes for each of a million parameters
    need = 2 * 700 + 256 + 128 + 20e6 / 2**20
    fault(devices.memory(make_config(), 1_000_000), "1.0 GiB of 4.0 GiB free", f"{need / 1024:.1f} GiB at least")
    monkeypatch.setattr(devices, "free_memory", lambda: (2 << 30, 4 << 30))
    assert devices.memory(make_config(), 1_000_000).status is OK


def test_a_containers_memory_limit_counts_if_it_is_below_the_machines(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(devices, "CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{300 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{100 << 20}\n")
    assert devices.free_memory() == (200 << 20, 300 << 20)
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.free_memory()[1] == devices.psutil.virtual_memory().total


@pytest.mark.parametrize(("hard", "status"), [(256, FAIL), (4096, NOTE), (20000, OK), (devices.resource.RLIM_INFINITY, OK)])
def test_injected_a_low_limit_of_open_files_is_red(monkeypatch, hard: int, status: Status) -> None:
    monkeypatch.setattr(devices.resource, "getrlimit", lambda which: (min(hard, 128), hard))
    found = devices.open_files()
    assert found.status is status
    if status is FAIL:
        fault(found, "256", "ulimit -Hn")


# --- compiled code


def test_injected_a_torchvision_of_another_build_is_red_with_error_and_shim(monkeypatch, tmp_path) -> None:
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fault(native.torchvision(), "operator torchvision::nms does not exist", "torchvision_cpu_shim")
    (package / "__init__.py").write_text('__version__ = "0.28.0"\n')
    assert native.torchvision().status is OK


def test_injected_no_compiler_is_red_only_while_the_operator_is_not_compiled(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    fault(native.deepspeed_operator(cuda=False), "C++ compiler (no-such-compiler)", "apt-get install g++")
    assert native.deepspeed_operator(cuda=True).status is OK
    folder = tmp_path / native.OPERATOR
    folder.mkdir()
    (folder / f"{native.OPERATOR}.so").touch()
    assert native.deepspeed_operator(cuda=False).status is OK


def test_injected_the_lock_of_a_killed_build_is_red_and_a_recent_lock_is_not(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    monkeypatch.setenv("CXX", "true")
    folder = tmp_path / native.OPERATOR
    folder.mkdir()
    lock = folder / "lock"
    lock.touch()
    assert native.deepspeed_operator(cuda=False).status is not FAIL or "ninja not found" in native.deepspeed_operator(cuda=False).found
    os.utime(lock, (0, time.time() - 3600))
    fault(native.deepspeed_operator(cuda=False), str(lock), "rm ")


# --- storage


def tiny_disk(monkeypatch, free: int) -> None:
    monkeypatch.setattr(storage.shutil, "disk_usage", lambda path: Usage(2 * free, free, free))


def test_injected_a_containers_default_shared_memory_is_red_for_a_large_model(monkeypatch, make_config) -> None:
    tiny_disk(monkeypatch, 64 << 20)
    # 10 M parameters in float32, twice: 80 MB
    fault(storage.shared_memory(make_config(), 10_000_000, cuda=False), "64 MiB free", "76 MiB", "--shm-size", "remount")
    small = storage.shared_memory(make_config(), 800_000, cuda=False)
    assert small.status is NOTE and "slower" in small.fix  # Ray's objects do not fit
    tiny_disk(monkeypatch, 1 << 30)
    assert storage.shared_memory(make_config(), 10_000_000, cuda=False).status is OK


def test_injected_no_shared_memory_at_all_is_red(monkeypatch, make_config, tmp_path) -> None:
    monkeypatch.setattr(storage, "SHARED_MEMORY", tmp_path / "none")
    fault(storage.shared_memory(make_config(), None, cuda=False), "there is no", "mount -t tmpfs")


def test_injected_a_full_disk_is_red(monkeypatch, make_config) -> None:
    tiny_disk(monkeypatch, 1 << 20)
    fault(storage.run_folder(make_config()), "run.dir=runs", "1 MiB free", "checkpoint.keep")
    fault(storage.cache_folder({"TORCHINDUCTOR_CACHE_DIR": "/tmp/none"}), "1 MiB free", "XDG_CACHE_HOME")


def test_injected_a_cache_that_is_no_folder_is_red(tmp_path) -> None:
    file = tmp_path / "file"
    file.touch()
    fault(storage.cache_folder({"TORCHINDUCTOR_CACHE_DIR": str(file)}), "cannot be written", "XDG_CACHE_HOME")


def test_injected_a_hub_that_does_not_answer_is_yellow_with_advice(monkeypatch, make_config) -> None:
    monkeypatch.setattr(storage, "is_offline", lambda: False)
    monkeypatch.setattr(storage, "why_unreachable", lambda: "https://hub.example cannot be reached: timed out")
    found = storage.hub(make_config())
    assert (found.status, found.fix) == (NOTE, "")
    assert "no hub: pass folders" in found.found and "timed out" in found.found
    assert "give a folder" in storage.hub(make_config("model.path=some/model")).fix
    monkeypatch.setattr(storage, "why_unreachable", lambda: None)
    assert storage.hub(make_config()).status is OK


def test_injected_a_hanging_name_resolution_times_out(monkeypatch) -> None:
    monkeypatch.setattr(storage, "why_unreachable", lambda: time.sleep(60))
    begin = time.monotonic()
    assert storage._hub_problem(0.05) == "no answer within 0.05 s"
    assert time.monotonic() - begin < 10


def test_hf_hub_offline_is_a_note(make_config) -> None:
    assert storage.hub(make_config()) == note("hub", "HF_HUB_OFFLINE is set: only folders and the cache are used")


def test_injected_a_missing_model_is_red(make_config) -> None:
    fault(storage.model(make_config("model.path=nobody/nothing")), "nobody/nothing", "HF_HUB_OFFLINE is set", "model.path=FOLDER")


def test_the_model_is_named_with_its_size(make_config, project, monkeypatch) -> None:
    monkeypatch.chdir(project)
    found = storage.model(make_config())
    assert found.status is OK and "Qwen2" in found.found and "M parameters" in found.found


def test_parameters_are_counted_from_the_files_headers(tmp_path, make_config) -> None:
    names = {}
    for name, shapes in {"a": [(3, 4), (5,)], "b": [(2, 2, 2)]}.items():
        tensors = {f"{name}{i}": np.zeros(shape, np.float32) for i, shape in enumerate(shapes)}
        save_file(tensors, tmp_path / f"{name}.safetensors", metadata={"format": "pt"})
        names |= dict.fromkeys(tensors, f"{name}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')
    assert storage.parameters_of(make_config(f"model.path={tmp_path}")) == 12 + 5 + 8


# --- Ray


@pytest.fixture
def surroundings(monkeypatch, tmp_path) -> Path:
    """Set a temporary home folder and Ray folder, and unset Ray's variables."""
    for name in ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    (tmp_path / "ray").mkdir()
    return tmp_path


def test_injected_the_address_of_a_dead_cluster_is_red_at_once(surroundings, monkeypatch, make_config) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{free.getsockname()[1]}"
    assert ray_state.cluster(make_config()) == ok("ray cluster", "none is running here: a run starts a local one")
    left = surroundings / "ray" / "ray_current_cluster"
    left.write_text(dead)
    fault(ray_state.cluster(make_config()), str(left), dead, "cluster.address=local")
    assert ray_state.cluster(make_config("cluster.address=local")).status is OK
    monkeypatch.setenv("RAY_ADDRESS", "somewhere")
    fault(ray_state.cluster(make_config()), "RAY_ADDRESS", "HOST:PORT")
    monkeypatch.setenv("RAY_ADDRESS", dead)
    fault(ray_state.cluster(make_config()), "RAY_ADDRESS", dead)
    with socket.create_server(("127.0.0.1", 0)) as alive:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{alive.getsockname()[1]}")
        assert ray_state.cluster(make_config()).status is OK


def test_a_missing_token_is_yellow_and_an_existing_one_is_never_shown(surroundings, monkeypatch) -> None:
    assert ray_state.token().status is NOTE and "ray get-auth-token" in ray_state.token().fix
    (surroundings / ".ray").mkdir()
    (surroundings / ".ray" / "auth_token").write_text("a secret")
    assert ray_state.token().status is OK
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another secret")
    assert ray_state.token().status is OK and "secret" not in ray_state.token().found
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_state.token().status is NOTE


# --- the report


def test_injected_a_check_that_raises_is_a_red_line_and_the_others_continue(monkeypatch, make_config, project) -> None:
    def broken() -> Check:
        raise OSError("unheard of")

    monkeypatch.chdir(project)
    monkeypatch.setattr(machine.devices, "processor", broken)
    monkeypatch.setattr(machine.native, "torchvision", lambda: ok("torchvision", "not asked here"))
    found = list(machine.machine_checks(make_config()))
    fault(next(check for check in found if check.name == "cpu"), "OSError: unheard of")
    assert found[-1].name == "ray token" and len(found) >= 18
    assert all(check.fix for check in found if check.status is FAIL)


def test_plain_lines_have_status_and_fix_and_no_control_character() -> None:
    assert console.plain(ok("disk", "9.0 GiB free")) == ["ok    disk            9.0 GiB free"]
    assert console.plain(fail("data", "first\nsecond", "mend it")) == [
        "FAIL  data            first",
        "                      second",
        "                      -> mend it",
    ]


@pytest.mark.parametrize(("lines", "status", "last"), [
    ([ok("a", "x"), note("b", "y")], 0, "all checks passed, 1 with a note"),
    ([ok("a", "x"), fail("b", "y", "z")], 1, "1 failed"),
])  # fmt: skip
def test_the_exit_status_is_1_if_a_line_is_red(monkeypatch, capsys, project, lines, status: int, last: str) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(machine, "machine_checks", lambda cfg: iter(lines))
    monkeypatch.setattr("actors.programs.doctor.examine", lambda cfg, quick, listener: listener.add(ok("ray", str(quick))))
    assert cli.main(["doctor", "--quick"]) == status
    out = capsys.readouterr().out.splitlines()
    assert out[-1] == last and "ok    ray             True" in out


def test_injected_a_ray_that_cannot_be_imported_is_a_red_line(monkeypatch, capsys, project) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(machine, "machine_checks", lambda cfg: iter([]))
    monkeypatch.setitem(sys.modules, "actors.programs.doctor", None)
    assert cli.main(["doctor"]) == 1
    assert re.search(r"^FAIL  round trip\s+the check itself failed: ModuleNotFoundError", capsys.readouterr().out, re.MULTILINE)


def test_a_setting_without_a_config_file_and_a_bad_setting_are_bad_input() -> None:
    with pytest.raises(BadInput, match="uec doctor configs/llm.yaml rollout.n=2"):
        machine.load_checked_config("rollout.n=2", [])
    assert cli.main(["doctor", "configs/llm.yaml", "rollout.m=2"]) == 2


def test_the_default_config_is_found_from_anywhere(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = machine.load_checked_config(None, [])
    assert Path(cfg.model.path).is_dir() and Path(cfg.data.train).is_file()


@pytest.mark.e2e
def test_the_quick_report_of_this_machine_is_plain_and_has_no_red_line(project) -> None:
    environment = os.environ | {"FORCE_COLOR": "1"}
    program = [sys.executable, "-m", "uec.commands.cli", "doctor", "--quick", "configs/llm.yaml", "cluster.address=local"]
    done = subprocess.run(program, cwd=project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout and "FAIL" not in done.stdout
    for name in ("python", "torch", "cpu", "gpu", "memory", "shared memory", "torchvision", "deepspeed op", "hub", "model", "ray"):
        assert re.search(rf"^(ok|note)\s+{name}\s", done.stdout, re.MULTILINE), name
    assert re.search(r"^ok\s+ray .*a local cluster starts.*token authentication is on", done.stdout, re.MULTILINE)
