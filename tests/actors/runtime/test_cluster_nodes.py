"""`uec train` on a Ray cluster of two nodes that runs already: two engines and two learner ranks, spread over both.

The nodes are Ray's own (raylet, object store, workers) on one host. Run as a program, this file starts them, trains, and prints who ran
where, in a separate process, because Ray reads its authentication once in a process's life.
"""

import json
import math
import os
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from uec.tracking.metrics_file import read_metrics

PROJECT = Path(__file__).resolve().parents[3]
STEPS = 3
TWO_OF_EACH = ("rollout.engines=2", "learner.ranks=2", "learner.zero_stage=2")
FOUR_FIT_ON_TWO_NODES = ("rollout.cpus=0.4", "learner.cpus=0.4", "reward.cpus=0.1")
"""A node has one CPU: two of these actors fit on it, not three."""


def two_nodes(command: list[str]) -> None:
    """Train on a new cluster; print what Ray knows of the run's actors as the last line."""
    import ray
    from ray._private.state import actors
    from ray.cluster_utils import Cluster

    store = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=store)
    try:
        cluster.add_node(**store)
        subprocess.run([*command, f"cluster.address={cluster.address}"], cwd=PROJECT, check=True)
        ray.init(address=cluster.address, log_to_driver=False)
        nodes = {actor["Name"]: actor["Address"]["NodeID"] for actor in actors().values()}
        print(json.dumps(nodes))
        ray.shutdown()
    finally:
        cluster.shutdown()


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> tuple[Path, str, dict[str, str]]:
    """The run's folder, what it printed, and the node of each of its actors."""
    folder = tmp_path_factory.mktemp("runs")
    program = str(Path(sys.executable).parent / "uec")
    command = [
        program, "train", "configs/llm.yaml", f"run.dir={folder}", "run.name=nodes", f"train.steps={STEPS}", "train.max_staleness=1",
        "train.prompts_per_step=16", "data.eval=null", "checkpoint.every=0", "weights.verify_every=1", "replay.min_rows=8",
        "replay.every=2", *TWO_OF_EACH, *FOUR_FIT_ON_TWO_NODES,
    ]  # fmt: skip
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    elsewhere = tmp_path_factory.mktemp("elsewhere")  # actors work where the nodes were started, and the config's paths are relative
    done = subprocess.run(
        [sys.executable, __file__, *command], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=240
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    *printed, nodes = done.stdout.strip().splitlines()
    return folder / "nodes", "\n".join(printed), json.loads(nodes)


pytestmark = pytest.mark.e2e


def test_engines_and_learner_ranks_run_on_both_nodes(run):
    _, printed, nodes = run
    assert "joined the Ray cluster at" in printed
    assert set(nodes) == {"rollout-0", "rollout-1", "learner-0", "learner-1", "reward-0", "difficulty", "replay"}
    assert len(set(nodes.values())) == 2
    by_node = [sorted(name for name in nodes if nodes[name] == node and name[-1].isdigit()) for node in set(nodes.values())]
    assert all(by_node), by_node


def test_every_engine_takes_each_version_of_the_weights_from_a_rank_on_another_node(run):
    folder, _, nodes = run
    assert any(nodes[engine] != nodes["learner-0"] for engine in ("rollout-0", "rollout-1"))  # learner-0 publishes
    rows = read_metrics(folder / "metrics.jsonl")
    assert [row["weights/version"] for row in rows] == [1, 2, 3]
    assert max(row["weights/probe_gap"] for row in rows) < 1e-3  # the largest of both engines', after each version


def test_metrics_are_finite_and_both_engines_agree_with_the_learners_logprobs(run):
    rows = read_metrics(run[0] / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, STEPS + 1))
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert max(row["policy/rollout_logprob_gap_max"] for row in rows if "policy/rollout_logprob_gap_max" in row) < 1e-3
    assert max(row["rollout/version_lag_max"] for row in rows) == 1  # one step ahead


if __name__ == "__main__":
    two_nodes(sys.argv[1:])
