"""Runs in a Ray job: their folder, the warning about its stop, and the compiler caches of actors on a running cluster."""

import os
from pathlib import Path

import pytest

from uec.config.schema import Config
from uec.errors import BadInput
from uec.system.ray_job import IN_A_JOB, RAY_STOP_WAIT_S, enclosing_job_copy, move_run_dir, outside_job_copy, refuse_job_copy, stop_note

COPY = Path("/tmp/ray/session_2026-01-02_03-04-05_6_7/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef")


@pytest.mark.parametrize("working", [COPY, COPY / "configs"])
def test_a_relative_run_dir_moves_from_a_job_copy_to_the_home_folder_with_a_warning(working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    cfg = Config()
    warnings = move_run_dir(cfg, working)
    assert cfg.run.dir == "/home/ada/runs"
    assert len(warnings) == 1 and warnings[0].startswith("run.dir=runs would lie in") and "it is /home/ada/runs instead;" in warnings[0]


@pytest.mark.parametrize(("run_dir", "working"), [("/mnt/runs", COPY), ("runs", Path("/home/ada/uec-rl")), ("runs", COPY.parent)])
def test_other_run_dirs_do_not_change_and_give_no_warning(run_dir: str, working: Path) -> None:
    cfg = Config()
    cfg.run.dir = run_dir
    assert move_run_dir(cfg, working) == []
    assert cfg.run.dir == run_dir


def test_an_absolute_run_folder_in_a_job_copy_is_refused() -> None:
    with pytest.raises(BadInput, match=r"run folder .*_ray_pkg_0123456789abcdef/runs/first lies in .* give run\.dir an absolute path"):
        refuse_job_copy(COPY / "runs/first")
    refuse_job_copy(Path("/mnt/runs/first"))


def test_a_symbolic_link_into_a_job_copy_is_resolved(tmp_path: Path) -> None:
    copy = tmp_path / "runtime_resources/working_dir_files/_ray_pkg_a"
    copy.mkdir(parents=True)
    (tmp_path / "runs").symlink_to(copy)
    assert enclosing_job_copy(tmp_path / "runs") is None
    with pytest.raises(BadInput):
        refuse_job_copy(tmp_path / "runs/first")


def test_a_job_that_stop_would_kill_in_3_seconds_gets_a_warning() -> None:
    assert stop_note({}) == []
    assert stop_note({IN_A_JOB: "{}", "RAY_JOB_STOP_WAIT_TIME_S": "600"}) == []
    (warning,) = stop_note({IN_A_JOB: "{}"})
    assert "3 s after its signal" in warning and "--runtime-env launch/job.yaml" in warning


def test_the_constants_equal_those_of_the_installed_ray() -> None:
    from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
    from ray.dashboard.modules.job.job_supervisor import JobSupervisor

    assert IN_A_JOB == RAY_JOB_CONFIG_JSON_ENV_VAR
    assert JobSupervisor.DEFAULT_RAY_JOB_STOP_WAIT_TIME_S == RAY_STOP_WAIT_S


@pytest.mark.e2e
def test_an_actor_uses_the_compiler_caches_of_the_driver_on_a_running_cluster(cluster, make_config, monkeypatch, tmp_path) -> None:
    import ray

    from actors.runtime.slots import ActorSlot, ActorSpec, Role
    from actors.runtime.supervisor import Supervisor

    class Surrounded:
        def variable(self, name: str) -> str | None:
            return os.environ.get(name)

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))  # after the start of the cluster
    supervisor = Supervisor(make_config(), [], tmp_path, tracker=None)
    spec = ActorSpec(Role.DIFFICULTY, "surrounded", Surrounded, (), cpus=0.01)
    actor = supervisor._create(ActorSlot(spec), "surrounded")
    assert ray.get(actor.variable.remote("TORCHINDUCTOR_CACHE_DIR")) == str(tmp_path / "inductor")
    assert ray.get(actor.variable.remote("TORCH_EXTENSIONS_DIR")) == os.environ["TORCH_EXTENSIONS_DIR"]


def test_predictions_of_an_evaluation_move_out_of_a_job_copy_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    place, warnings = outside_job_copy(Path("evals/mine-on-gsm8k"), COPY, "--to")
    assert place == Path("/home/ada/evals/mine-on-gsm8k")
    assert len(warnings) == 1 and warnings[0].startswith("--to=evals/mine-on-gsm8k would lie in")
    assert outside_job_copy(Path("/mnt/evals"), COPY, "--to") == (Path("/mnt/evals"), [])
