"""Run launch/slurm.sh with fakes of srun, scontrol and the environment's programs, which record their calls."""

import hashlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ray.scripts.scripts import start

FAKE_SCONTROL = """#!/usr/bin/env bash
[ "$*" = "show hostnames node[1-3]" ] || exit 9
printf '%s\\n' $FAKE_NODES
"""
# This srun runs its command locally and once; `hostname` answers as on a node with two addresses.
FAKE_SRUN = """#!/usr/bin/env bash
options=()
while [[ $1 == --* ]]; do options+=("$1"); shift; done
echo "srun ${options[*]} | $* | $(printf %s "$RAY_AUTH_TOKEN" | sha256sum | cut -c1-64) $RAY_AUTH_MODE $SRUN_CPUS_PER_TASK" >>"$FAKE_LOG"
if [ "$1" = hostname ]; then echo "10.0.0.7 fe80::7"; else exec "$@"; fi
"""
FAKE_RAY = """#!/usr/bin/env bash
trap 'echo "ray ended" >>"$FAKE_LOG"; exit 0' TERM
echo "ray up" >>"$FAKE_LOG"
while :; do sleep 0.05; done
"""
FAKE_PYTHON = """#!/usr/bin/env bash
echo "python $*" >>"$FAKE_LOG"
case "$*" in
*launch.train*)
    [ -z "${FAKE_STATUS:-}" ] || exit "$FAKE_STATUS"
    trap 'sleep 0.3; echo "checkpoint" >>"$FAKE_LOG"; exit 143' TERM
    echo training >>"$FAKE_LOG"
    while :; do sleep 0.05; done ;;
*wait_for_nodes*)
    steps=$(($4 > 1 ? 2 : 1))
    until [ "$(grep -c "ray up" "$FAKE_LOG")" = $steps ]; do sleep 0.05; done
    exit "${FAKE_WAIT:-0}" ;;
esac
"""


@dataclass
class Allocation:
    """A checkout with the real script and fakes of all other programs."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def begin(self, *words: str, nodes: int = 3) -> "subprocess.Popen[str]":
        names = " ".join(f"node{i}" for i in range(1, nodes + 1))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "RAY_"))},
            "PATH": f"{self.folder}/fakes:{os.environ['PATH']}",
            "FAKE_LOG": str(self.folder / "calls"),
            "FAKE_NODES": names,
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "node[1-3]",
            "SLURM_SUBMIT_DIR": str(self.folder),
            "SLURM_CPUS_PER_TASK": "64",
            **self.variables,
        }
        script = self.folder / "spool-copy-of-slurm.sh"  # Slurm runs a copy, whose path says nothing about the checkout
        environment = {name: value for name, value in environment.items() if value}
        return subprocess.Popen(
            [script, *words], cwd="/", env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def allocation(project: Path, tmp_path: Path) -> Allocation:
    shutil.copy(project / "launch/slurm.sh", tmp_path / "spool-copy-of-slurm.sh")
    for name, text in {
        "fakes/scontrol": FAKE_SCONTROL, "fakes/srun": FAKE_SRUN, ".venv/bin/ray": FAKE_RAY, ".venv/bin/python": FAKE_PYTHON,
    }.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    return Allocation(tmp_path)


def test_head_workers_and_driver_get_their_commands_in_this_order(allocation: Allocation) -> None:
    allocation.variables = {"FAKE_STATUS": "0"}
    script = allocation.begin("configs/llm.yaml", "run.name=a b", "run.resume=auto")
    output = script.communicate(timeout=20)
    assert script.returncode == 0, output
    calls = [call for call in allocation.calls() if call not in ("ray up", "ray ended")]
    parts = [call.split(" | ")[:2] if call.startswith("srun") else call for call in calls]
    ask, (wait, train) = parts[0], [part for part in parts if isinstance(part, str)]
    steps = [part for part in parts[1:] if isinstance(part, list)]
    assert ask == ["srun --nodes=1 --ntasks=1 --nodelist=node1", "hostname --ip-address"]
    ray = ".venv/bin/ray start --block --disable-usage-stats --num-cpus=64"
    assert sorted(steps) == [
        ["srun --nodes=1 --ntasks=1 --nodelist=node1 --overlap",
         f"{ray} --head --node-ip-address=10.0.0.7 --port=24711 --temp-dir=/tmp/ray-4711 --include-dashboard=false"],
        ["srun --nodes=2 --ntasks=2 --exclude=node1 --overlap", f"{ray} --address=10.0.0.7:24711"],
    ]  # fmt: skip
    assert wait == "python -m launch.wait_for_nodes 10.0.0.7:24711 3"
    assert train == "python -m launch.train configs/llm.yaml run.name=a b run.resume=auto cluster.address=10.0.0.7:24711"
    for _, command in steps:  # Ray has all these options
        start.make_context("start", command.split()[2:])


def test_one_node_has_a_head_and_no_workers(allocation: Allocation) -> None:
    allocation.variables = {"FAKE_STATUS": "0"}
    script = allocation.begin("configs/llm.yaml", nodes=1)
    script.communicate(timeout=20)
    assert script.returncode == 0
    assert sum("ray start" in call for call in allocation.calls()) == 1
    assert "python -m launch.wait_for_nodes 10.0.0.7:24711 1" in allocation.calls()


def test_all_steps_share_one_new_token_that_no_command_line_contains(allocation: Allocation) -> None:
    seen = []
    for _ in range(2):
        (allocation.folder / "calls").unlink(missing_ok=True)
        allocation.variables = {"FAKE_STATUS": "0"}
        output = "".join(allocation.begin("configs/llm.yaml").communicate(timeout=20))
        endings = {call.split(" | ")[2] for call in allocation.calls() if call.startswith("srun")}
        assert len(endings) == 1
        digest, mode, cpus = endings.pop().split()
        assert (mode, cpus) == ("token", "64")
        assert digest != hashlib.sha256(b"").hexdigest()
        words = {word.rpartition("=")[2] for call in [*allocation.calls(), output] for word in call.split()}
        assert digest not in {hashlib.sha256(word.encode()).hexdigest() for word in words}
        seen.append(digest)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("status", ["1", "2"])
def test_the_script_ends_with_the_status_of_the_driver_and_stops_ray(allocation: Allocation, status: str) -> None:
    allocation.variables = {"FAKE_STATUS": status}
    script = allocation.begin("configs/llm.yaml")
    script.communicate(timeout=20)
    assert script.returncode == int(status)
    assert allocation.calls().count("ray ended") == 2


def test_sigterm_before_the_time_limit_leaves_a_checkpoint_and_no_process(allocation: Allocation) -> None:
    script = allocation.begin("configs/llm.yaml")
    while "training" not in allocation.calls():
        assert script.poll() is None
    script.send_signal(signal.SIGTERM)  # only to the script, like #SBATCH --signal=B:
    script.communicate(timeout=20)
    assert script.returncode == 143
    assert allocation.calls()[-3:] == ["checkpoint", "ray ended", "ray ended"]  # Ray ends after the checkpoint
    with pytest.raises(ProcessLookupError):
        os.killpg(script.pid, 0)


def test_missing_nodes_end_the_job_before_the_run_starts(allocation: Allocation) -> None:
    allocation.variables = {"FAKE_WAIT": "1"}
    script = allocation.begin("configs/llm.yaml")
    script.communicate(timeout=20)
    assert script.returncode == 1
    assert not any("launch.train" in call for call in allocation.calls())
    assert allocation.calls().count("ray ended") == 2


@pytest.mark.parametrize(
    ("words", "variables", "message"),
    [
        ((), {}, "no config given: sbatch launch/slurm.sh CONFIG"),
        (("configs/llm.yaml",), {"SLURM_JOB_ID": ""}, "this is a batch script"),
        (("configs/llm.yaml",), {"SLURM_SUBMIT_DIR": "/"}, "/ has no .venv/bin/ray: submit from the checkout"),
    ],
)
def test_a_missing_requirement_is_named_before_anything_starts(allocation: Allocation, words, variables, message: str) -> None:
    allocation.variables = variables
    script = allocation.begin(*words)
    assert message in script.communicate(timeout=20)[1]
    assert script.returncode == 2
    assert allocation.calls() == []


def test_slurm_leaves_the_run_15_minutes_for_its_checkpoint(project: Path) -> None:
    lines = (project / "launch/slurm.sh").read_text().splitlines()
    options = dict(line.removeprefix("#SBATCH --").split("=", 1) for line in lines if line.startswith("#SBATCH --") and "=" in line)
    assert options["signal"] == "B:TERM@900" and options["ntasks-per-node"] == "1"
    last = max(i for i, line in enumerate(lines) if line.startswith("#SBATCH"))
    assert all(line.startswith("#") for line in lines[: last + 1])  # Slurm ignores options after the first command


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed (Debian: apt-get install shellcheck)")
@pytest.mark.parametrize("script", ["launch/slurm.sh", "launch/setup.sh", "launch/verify_gpu.sh"])
def test_shellcheck_reports_no_problem(project: Path, script: str) -> None:
    done = subprocess.run(["shellcheck", "--severity=warning", script], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
