"""The cluster files of launch/, without a cluster: every file, module, option and resource that they name exists."""

import configparser
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import cli, start

from uec.commands.cli import parser
from uec.config.file import load_config
from uec.config.schema import Config
from uec.config.validate import check_cluster, validate

IMAGE = "registry.example.com/uec-rl:0.1.0-gpu"


def pod(group: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the pod of a group, and its only container."""
    spec = group["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


def trained_by(command: str, monkeypatch: pytest.MonkeyPatch, project: Path) -> Config:
    """Return the validated config of a command `python -m launch.train ...` or `uec train ...`."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "launch.train"] or words[:2] == ["uec", "train"], command
    monkeypatch.chdir(project)
    rest = words[3:] if words[0] == "python" else words[2:]
    arguments = parser().parse_args(["train", *rest])
    cfg = load_config(arguments.config, arguments.overrides)
    validate(cfg)
    return cfg


def pins(project: Path) -> configparser.ConfigParser:
    setup = configparser.ConfigParser()
    setup.read(project / "setup.cfg")
    return setup


# --- KubeRay


@pytest.fixture
def kuberay(project: Path) -> dict[str, Any]:
    documents = list(yaml.safe_load_all((project / "launch/kuberay.yaml").read_text()))
    assert [(d["apiVersion"], d["kind"]) for d in documents] == [
        ("v1", "PersistentVolumeClaim"), ("ray.io/v1", "RayCluster"), ("ray.io/v1", "RayJob"),
    ]  # fmt: skip
    return {document["kind"]: document for document in documents}


@pytest.fixture
def groups(kuberay: dict[str, Any]) -> list[dict[str, Any]]:
    spec = kuberay["RayCluster"]["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_kuberay_enables_the_token_from_a_secret_outside_the_file(kuberay, project: Path) -> None:
    spec = kuberay["RayCluster"]["spec"]
    assert spec["authOptions"] == {"mode": "token", "secretName": "uec-ray-token"}
    assert "kubectl create secret generic uec-ray-token --from-literal=auth_token=" in (project / "launch/kuberay.yaml").read_text()
    assert "Secret" not in kuberay


def test_kuberay_runs_the_ray_of_setup_cfg(kuberay, project: Path) -> None:
    version = kuberay["RayCluster"]["spec"]["rayVersion"]
    assert version == ray.__version__
    assert f"ray[default]=={version}" in pins(project)["options"]["install_requires"]


def test_kuberay_mounts_what_it_declares_and_shares_one_claim(kuberay, groups) -> None:
    claim = kuberay["PersistentVolumeClaim"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    for group in groups:
        spec, container = pod(group)
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: volumes[mount["name"]] for mount in container["volumeMounts"]}
        assert set(mounts) == {"/mnt/uec", "/dev/shm"} and len(volumes) == 2
        assert mounts["/mnt/uec"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        memory = mounts["/dev/shm"]["emptyDir"]
        assert memory["medium"] == "Memory"
        assert gib(memory["sizeLimit"]) < gib(container["resources"]["limits"]["memory"])  # /dev/shm counts as memory of the pod


def gib(quantity: str) -> int:
    return int(quantity.removesuffix("Gi"))


def test_kuberay_drops_all_privileges_of_pods(groups) -> None:
    for group in groups:
        spec, container = pod(group)
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] == 1000
        assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_kuberay_keeps_actors_off_the_head_and_the_dashboard_inside_the_cluster(groups) -> None:
    head = groups[0]
    assert head["rayStartParams"]["num-cpus"] == "0" and head["serviceType"] == "ClusterIP"
    assert "nvidia.com/gpu" not in pod(head)[1]["resources"]["limits"]


def test_kuberay_passes_only_existing_ray_start_options_as_text(groups) -> None:
    for group in groups:
        options = group["rayStartParams"]
        assert all(isinstance(value, str) for value in options.values())
        start.make_context("start", ["--head", *(f"--{name}={value}" for name, value in options.items())])


def test_kuberay_leaves_a_stopped_job_time_for_its_checkpoint(groups) -> None:
    spec, container = pod(groups[0])
    wait = next(int(v["value"]) for v in container["env"] if v["name"] == "RAY_JOB_STOP_WAIT_TIME_S")
    assert spec["terminationGracePeriodSeconds"] > wait >= 300


def test_the_kuberay_job_is_a_valid_run_on_that_cluster_and_resumes_when_applied_again(kuberay, groups, project, monkeypatch) -> None:
    job = kuberay["RayJob"]["spec"]
    assert job["clusterSelector"] == {"ray.io/cluster": kuberay["RayCluster"]["metadata"]["name"]}
    cfg = trained_by(job["entrypoint"], monkeypatch, project)
    assert cfg.run.dir.startswith("/mnt/uec/") and (cfg.run.resume, cfg.run.name) == ("auto", "geometry")
    workers = [(group["replicas"], pod(group)[1]["resources"]) for group in groups[1:]]
    gpus = sum(n * int(resources["limits"]["nvidia.com/gpu"]) for n, resources in workers)
    cpus = sum(n * int(resources["limits"]["cpu"]) for n, resources in workers)
    check_cluster(cfg, cpus, gpus, images=True)
    assert gpus == cfg.rollout.engines * cfg.rollout.tensor_parallel + cfg.learner.ranks  # no GPU is idle


# --- ray up


@pytest.fixture
def cluster(project: Path) -> dict[str, Any]:
    return yaml.safe_load((project / "launch/cluster.yaml").read_text())


def test_ray_up_takes_the_file(cluster) -> None:
    config = prepare_config(cluster)  # fills in defaults as `ray up` does
    validate_config(config)
    assert config["available_node_types"]["local.cluster.node"]["min_workers"] == 1


def test_ray_up_refuses_a_misspelt_field(cluster) -> None:
    cluster["docker"]["run_option"] = cluster["docker"].pop("run_options")
    with pytest.raises(Exception, match="run_option"):
        validate_config(prepare_config(cluster))


def test_ray_up_starts_nodes_with_existing_options_and_a_token_on_every_node(cluster) -> None:
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    starts = [part for command in commands for part in command.split("; ") if part.startswith("ray start")]
    assert len(starts) == 2 and "--head" in starts[0] and "--dashboard-host" not in "".join(starts)  # the dashboard stays on loopback
    for command in starts:
        start.make_context("start", shlex.split(command)[2:])
    options = cluster["docker"]["run_options"]
    assert "--env RAY_AUTH_MODE=token" in options
    (path,) = [option.partition("RAY_AUTH_TOKEN_PATH=")[2] for option in options if "RAY_AUTH_TOKEN_PATH=" in option]
    assert cluster["file_mounts"] == {path: "~/.ray/auth_token"}
    assert all(option.split()[0] in ("--env", "--volume", "--ulimit") and len(option.split()) == 2 for option in options)


# --- images


@pytest.fixture(params=["cpu", "gpu"])
def dockerfile(request, project: Path) -> tuple[str, list[tuple[str, str]]]:
    """Return cpu or gpu, and the instructions."""
    text = (project / f"launch/Dockerfile.{request.param}").read_text()
    lines = re.sub(r"\\\n", " ", "\n".join(line for line in text.splitlines() if not line.startswith("#"))).splitlines()
    return request.param, [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]


def test_an_image_is_pinned_runs_without_root_and_contains_no_token(dockerfile) -> None:
    _, instructions = dockerfile
    base = instructions[0]
    assert base[0] == "FROM" and re.fullmatch(r"[\w./-]+:[\w.-]*\d+\.\d+\.\d+[\w.-]*", base[1]), base
    assert [value for name, value in instructions if name == "USER"][-1] == "1000"
    assert "useradd --uid 1000" in " ".join(value for name, value in instructions if name == "RUN")
    environment = " ".join(value for name, value in instructions if name == "ENV")
    assert "RAY_AUTH_MODE=token" in environment and "RAY_AUTH_TOKEN=" not in environment
    assert "PATH=/opt/uec-rl/.venv/bin:$PATH" in environment


def test_an_image_is_set_up_from_the_checkout(dockerfile, project: Path) -> None:
    accel, instructions = dockerfile
    assert ("COPY", "--chown=uec:uec . .") in instructions
    runs = " ".join(value for name, value in instructions if name == "RUN")
    if accel == "cpu":
        assert runs.endswith("launch/setup.sh cpu")
    else:
        assert '--editable ".[gpu]"' in runs
    assert accel in pins(project)["options.extras_require"]
    major, minor = re.search(r"python:?(\d+)\.(\d+)", instructions[0][1] + runs).groups()
    assert (int(major), int(minor)) in [(3, 11), (3, 12)] and pins(project)["options"]["python_requires"] == ">=3.11,<3.13"


def test_an_image_runs_a_valid_run_and_keeps_it(dockerfile, project, monkeypatch) -> None:
    _, instructions = dockerfile
    command = next(value for name, value in instructions if name == "CMD")
    cfg = trained_by(" ".join(yaml.safe_load(command)), monkeypatch, project)
    assert cfg.run.dir == "/runs"
    text = " ".join(value for name, value in instructions if name == "RUN")
    assert re.search(r"install --directory --owner=uec --group=uec \S+ /runs", text)  # then the user owns a volume there


def test_an_image_contains_no_environment_runs_or_history(project: Path) -> None:
    ignored = (project / ".dockerignore").read_text().splitlines()
    assert {".git", ".venv", "runs", "models"} <= set(ignored)
    needed = {"launch", "configs", "assets", "uec", "actors", "bench", "setup.cfg", "setup.py", "pyproject.toml", "Makefile"}
    assert needed.isdisjoint(ignored)
    assert all((project / name).exists() for name in needed)


def test_all_launch_files_use_one_image_name(project: Path, cluster, groups) -> None:
    assert {pod(group)[1]["image"] for group in groups} | {cluster["docker"]["image"]} == {IMAGE}
    assert f"-t {IMAGE} ." in (project / "launch/Dockerfile.gpu").read_text()


# --- jobs


def test_a_job_uploads_neither_environment_nor_runs_nor_history(project: Path) -> None:
    excluded = get_excludes_from_ignore_files(project, include_gitignore=True)  # as Ray packs a working directory

    def left_out(path: str) -> bool:
        return any(exclude(project / path) for exclude in excluded)

    outside = [".git/config", ".venv/bin/python", "runs/first/config.yaml", "models/smollm2/config.json", "wandb/x", "tests/conftest.py"]
    assert [path for path in outside if not left_out(path)] == []
    tracked = subprocess.run(["git", "ls-files"], cwd=project, capture_output=True, text=True, check=True).stdout.splitlines()
    code = [path for path in tracked if path.split("/")[0] in ("launch", "configs", "assets", "uec", "actors", "bench")]
    assert len(code) > 100 and [path for path in code if left_out(path)] == []
    assert sum((project / path).stat().st_size for path in tracked if (project / path).is_file() and not left_out(path)) < 16 << 20


def test_ray_accepts_the_runtime_environment_of_jobs(project: Path) -> None:
    environment = yaml.safe_load((project / "launch/job.yaml").read_text())
    ray.runtime_env.RuntimeEnv(**environment)
    assert int(environment["env_vars"]["RAY_JOB_STOP_WAIT_TIME_S"]) >= 300


# --- commands in comments


@pytest.mark.parametrize("name", ["cluster.yaml", "job.yaml", "slurm.sh", "kuberay.yaml", "Dockerfile.cpu", "Dockerfile.gpu"])
def test_files_and_commands_in_comments_exist(project: Path, name: str, monkeypatch) -> None:
    comments = "\n".join(line for line in (project / "launch" / name).read_text().splitlines() if line.startswith("#"))
    for path in re.findall(r"\b(?:launch|configs|docs|uec|actors)/[\w./]+\.(?:py|yaml|md|sh|cpu|gpu)\b", comments):
        assert (project / path).exists(), path
    for words in re.findall(r"(?:^|\s|\()(?:\.venv/bin/)?ray ((?:[a-z-]+ )+)", comments):
        command = cli
        for word in words.split():
            assert word in command.commands, f"ray {words}"
            command = command.commands[word]
            if not hasattr(command, "commands"):
                break
    for command in re.findall(r"\b((?:uec train|python -m launch\.train) [^'\n]+)", comments):
        trained_by(command, monkeypatch, project)
