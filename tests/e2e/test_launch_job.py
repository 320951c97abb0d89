"""`ray job submit` on a real cluster with its job server and a token: the run is followed, stopped, and resumed by a second job.

The cluster is the test's own: free ports, a temporary folder, a home folder that is empty. Its processes are known by the folder that they
work in, and what remains is ended by number; no other cluster on the machine is touched.
"""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from safetensors import safe_open

from uec.tracking.metrics_file import read_metrics

pytestmark = pytest.mark.e2e

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
SHORT = ("run.name=job", "train.prompts_per_step=8", "data.eval=null", "checkpoint.every=0", "replay.min_rows=8", "replay.every=2")
# As short as a job may be that somebody else would submit, and as a user types it: `python` is the one of the activated environment.
SUBMIT = ("ray", "job", "submit", "--working-dir", ".")
TRAIN = ("--", "python", "-m", "launch.train")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True)
class Cluster:
    """A head node, and what a client of it needs."""

    folder: Path
    environment: dict[str, str]
    dashboard: str
    gcs: str  # the address that other nodes and drivers join

    def client(self, *words: str, token: bool = True) -> "subprocess.Popen[str]":
        """A command, its output followed; without the token, as somebody who only sees the port."""
        environment = {**self.environment, "RAY_ADDRESS": self.dashboard}
        if not token:
            environment = {name: value for name, value in environment.items() if not name.startswith("RAY_AUTH")}
            environment["HOME"] = str(self.folder / "stranger")
        return subprocess.Popen(
            words, cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
        )  # fmt: skip

    def processes(self) -> dict[int, str]:
        """Every living process that descends from `ray start`, by its number, with its command line: they all work in the folder.

        (What stands in a process's environment is no help: Ray writes the names of its workers over it.)
        """
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if (place / "cwd").readlink().is_relative_to(self.folder):
                    found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:  # it ended while we looked, or is another user's
                continue
        return {pid: line for pid, line in found.items() if line}  # an ended one that nobody waited for has none

    def settled(self) -> dict[int, str]:
        """The processes once all of Ray's own are there: it answers before its agents have come up."""
        deadline, seen, now = time.monotonic() + 30, {}, self.processes()
        agents = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
        while set(seen) != set(now) or not all(any(line.startswith(agent) for line in now.values()) for agent in agents):
            assert time.monotonic() < deadline, "\n".join(line[:160] for line in now.values())
            time.sleep(1.5)
            seen, now = now, self.processes()
        return now


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="uec-", dir="/tmp"))  # a socket's path has to be short
    for name in ("home", "stranger"):
        (folder / name).mkdir()
    port, dashboard, *rest = free_ports(5)
    others = ("RAY_", "PYTHON", "TORCHINDUCTOR_CACHE_DIR", "TORCH_EXTENSIONS_DIR")  # set for tests; who types `ray start` has not set them
    environment = {name: value for name, value in os.environ.items() if not name.startswith(others)} | {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),  # what set-up compiled
        "HOME": str(folder / "home"),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_worker_niceness": "0",
        "RAY_JOB_STOP_WAIT_TIME_S": "60",
    }
    names = ("--dashboard-agent-listen-port", "--dashboard-agent-grpc-port", "--ray-client-server-port")
    started = subprocess.Popen(
        [
            "ray", "start", "--head", "--block", "--num-cpus=2", f"--object-store-memory={100 << 20}", "--disable-usage-stats",
            "--node-ip-address=127.0.0.1", f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}/ray",
            *(f"{name}={number}" for name, number in zip(names, rest, strict=True)),
        ],
        cwd=folder, env=environment, stdout=(folder / "start.log").open("w"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    head = Cluster(folder, environment, f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}")
    try:
        wait_for(lambda: status(f"{head.dashboard}/api/version", environment["RAY_AUTH_TOKEN"]) == 200, 60, folder / "start.log")
        yield head
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
        for pid in head.processes():
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(true, seconds: float, log: Path | None = None) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, log.read_text()[-2000:] if log else f"not so within {seconds} s"
        time.sleep(0.2)


def status(url: str, token: str | None = None) -> int:
    """HTTP status of a GET; 0: nobody listens."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def test_waiting_for_nodes_ends_when_they_are_there_or_names_how_many_are(cluster: Cluster) -> None:
    waiting = ("python", "-m", "launch.wait_for_nodes", cluster.gcs)
    one, two = cluster.client(*waiting, "1"), cluster.client(*waiting, "2", "1")
    assert one.communicate(timeout=60)[0] == f"wait_for_nodes: 1 of 1 nodes at {cluster.gcs}\n" and one.returncode == 0
    said, _ = two.communicate(timeout=60)
    assert said == f"wait_for_nodes: not within 1 s at {cluster.gcs}: 1 of 2 nodes\n" and two.returncode == 1


@dataclass(frozen=True)
class Stopped:
    """A job that was stopped in the middle of its run."""

    before: dict[int, str]  # processes
    during: dict[int, str]
    after: dict[int, str]
    log: str  # what `ray job submit` followed
    run: Path
    status: str
    code: str  # what another job said of the modules that it imported


@pytest.fixture(scope="module")
def stopped(cluster: Cluster) -> Stopped:
    before = cluster.settled()
    submission = "uec-test"
    look = cluster.client(*SUBMIT, "--", "python", "-c", "import actors, uec.models; print(uec.models.__file__, actors.__file__)")
    submit = cluster.client(*SUBMIT, "--submission-id", submission, *TRAIN, "configs/llm.yaml", *SHORT, "train.steps=10000")
    assert submit.stdout is not None
    lines = []
    for line in submit.stdout:  # as it comes: the log is followed
        lines.append(line)
        if re.search(r"\bstep +2\b", line):
            break
    else:
        pytest.fail("".join(lines))
    during = cluster.processes()
    code, _ = look.communicate(timeout=60)
    stop = cluster.client("ray", "job", "stop", submission)
    said, _ = stop.communicate(timeout=90)
    assert stop.returncode == 0, said
    rest, _ = submit.communicate(timeout=30)
    told, _ = cluster.client("ray", "job", "status", submission).communicate(timeout=30)
    with suppress(AssertionError):  # a test says what remains
        wait_for(lambda: not of_the_job(before, cluster.processes()), 20)
    return Stopped(before, during, cluster.processes(), "".join(lines) + rest, cluster.folder / "home/runs/job", told, code)


def of_the_job(before: dict[int, str], now: dict[int, str]) -> list[str]:
    """Return the command lines of processes that the job started. Ray's idle workers do not count: it keeps them for later jobs."""
    return [line for pid, line in now.items() if pid not in before and not line.startswith("ray::IDLE") and "default_worker.py" not in line]


def test_a_client_without_the_token_is_refused(cluster: Cluster) -> None:
    for path in ("/api/jobs/", "/api/version", "/nodes?view=summary", "/api/v0/actors"):
        assert status(cluster.dashboard + path) == 401, path
        assert status(cluster.dashboard + path, secrets.token_hex(32)) == 403, path
    stranger = cluster.client("ray", "job", "list", token=False)
    said, _ = stranger.communicate(timeout=30)
    assert stranger.returncode != 0 and "Unauthorized: Missing authentication token" in said
    stranger = cluster.client(*SUBMIT, "--", "touch", str(cluster.folder / "was-here"), token=False)
    stranger.communicate(timeout=30)
    assert stranger.returncode != 0 and not (cluster.folder / "was-here").exists()


def test_a_run_and_a_node_without_the_token_are_refused_at_once_and_told_so(cluster: Cluster) -> None:
    run = cluster.client("python", "-m", "launch.train", "configs/llm.yaml", f"cluster.address={cluster.gcs}", "run.dir=/tmp", token=False)
    wait = cluster.client("python", "-m", "launch.wait_for_nodes", cluster.gcs, "1", token=False)
    node = cluster.client("ray", "start", f"--address={cluster.gcs}", "--block", token=False)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 2 and f"the Ray cluster at {cluster.gcs} does not let this run in: it wants a token." in said
    assert f"wait_for_nodes: {cluster.gcs} wants its token" in wait.communicate(timeout=60)[0] and wait.returncode == 1
    assert "InvalidAuthToken" in node.communicate(timeout=60)[0] and node.returncode != 0


def test_the_log_is_followed_and_says_where_the_run_is_and_how_to_go_on(stopped: Stopped) -> None:
    assert "joined the Ray cluster at" in stopped.log
    assert f"a copy that Ray deletes: it is {stopped.run.parent} instead" in stopped.log
    assert "`ray job stop` kills" not in stopped.log  # time was given
    assert f"python -m launch.train {stopped.run}/config.yaml run.resume=auto" in stopped.log
    assert "STOPPED" in stopped.status.upper()


def test_a_stopped_job_leaves_a_whole_checkpoint_of_its_last_step(stopped: Stopped) -> None:
    done = len(read_metrics(stopped.run / "metrics.jsonl"))
    assert done >= 2
    assert [path.name for path in (stopped.run / "checkpoints").iterdir()] == [f"step_{done:06d}"]
    checkpoint = stopped.run / f"checkpoints/step_{done:06d}"
    assert json.loads((checkpoint / "driver.json").read_text())["step"] == done
    assert {path.name for path in checkpoint.iterdir()} == {"hf", "learner", "store", "difficulty.json", "driver.json", "files.json"}
    with safe_open(checkpoint / "hf/model.safetensors", framework="numpy") as weights:
        assert sum(weights.get_tensor(name).size for name in weights.keys()) > 500_000


def test_a_stopped_job_leaves_no_process_and_no_shared_memory(stopped: Stopped) -> None:
    names = "\n".join(of_the_job(stopped.before, stopped.during))
    assert "launch.train" in names and "ray::RolloutActor" in names and "ray::LearnerActor" in names  # the scan does see them
    assert of_the_job(stopped.before, stopped.after) == []
    assert "gcs_server" in "".join(stopped.after.values())  # Ray itself goes on


def test_what_is_sent_is_small_and_holds_neither_environment_nor_runs_nor_history(cluster: Cluster, stopped: Stopped) -> None:
    (copy,) = [path for path in cluster.folder.glob("ray/session_2*/runtime_resources/working_dir_files/_ray_pkg_*") if path.is_dir()]
    assert {path.name for path in copy.iterdir()}.isdisjoint({".git", ".venv", "runs", "models", "wandb", "tests"})
    assert (copy / "configs/llm.yaml").is_file() and (copy / "uec/commands/cli.py").is_file()
    assert sum(path.stat().st_size for path in copy.rglob("*") if path.is_file()) < 16 << 20


def test_a_job_runs_the_code_that_was_sent(stopped: Stopped) -> None:
    assert len(re.findall(r"/working_dir_files/_ray_pkg_\w+/(?:uec/models|actors)/__init__\.py", stopped.code)) == 2, stopped.code


def test_a_second_job_goes_on_from_the_checkpoint(cluster: Cluster, stopped: Stopped) -> None:
    done = len(read_metrics(stopped.run / "metrics.jsonl"))
    again = cluster.client(*SUBMIT, *TRAIN, str(stopped.run / "config.yaml"), "run.resume=auto", f"train.steps={done + 1}")
    log, _ = again.communicate(timeout=120)
    assert again.returncode == 0, log
    assert [row["step"] for row in read_metrics(stopped.run / "metrics.jsonl")] == list(range(1, done + 2))
