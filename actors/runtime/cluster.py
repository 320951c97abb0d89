"""Join a Ray cluster, or start a local one."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray._raylet import GcsClient
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from uec.config.schema import Config
from uec.doctor.check import Status
from uec.doctor.ray_state import TOKEN_FILE, cluster, token, would_join
from uec.errors import BadInput
from uec.models.download import download_model
from uec.models.pretrained import absolute_path
from uec.system.gpu_devices import Gpu
from uec.system.platform import smallest_gpu
from uec.system.process_env import import_path
from uec.system.ray_job import enclosing_job_copy

GPU_SHARE = 0.01  # of a GPU, for the process that asks for its memory
GPU_TIMEOUT_S = 90.0

COPY = f"Copy the head node's ~/{TOKEN_FILE} to the same place here (mode 600), or set RAY_AUTH_TOKEN to it"


@dataclass(frozen=True, slots=True)
class Resources:
    """The resources of the cluster."""

    cpus: float
    gpus: float
    joined: str | None  # address of the existing cluster; None: the run started one
    gpu: Gpu | None = None  # one of the cluster's GPUs; None: there is none, or it did not answer

    @property
    def device(self) -> str:
        return "cuda" if self.gpus else "cpu"


def connect(cfg: Config, namespace: str) -> Resources:
    """Join the cluster that `cluster.address` or the environment names (`ray start`, `ray job submit`, RAY_ADDRESS), or start one.

    Ray switches token authentication on for a cluster that it starts here, and uses the token that is there for one that it joins.
    """
    answers = cluster(cfg)
    if answers.status is Status.FAIL:
        raise BadInput(f"cannot reach the Ray cluster: {answers.found}; {answers.fix}")
    refuse_without_token(cfg)
    os.environ.setdefault("RAY_worker_niceness", "0")  # with Ray's default of 15, any other program on the machine starves the actors
    common = {"namespace": namespace, "log_to_driver": False, "logging_level": "ERROR"}
    store = cfg.store_mb() << 20
    local = {"num_cpus": local_cpus(cfg), "object_store_memory": store, "include_dashboard": False}
    address = None if cfg.cluster.address == "auto" else cfg.cluster.address
    try:
        joined = _init(address, common, local)
    except Exception as error:  # Ray also raises a plain Exception, for a node that does not start within 30 seconds
        raise BadInput(
            f"cannot reach or start a Ray cluster (cluster.address={cfg.cluster.address}, "
            f"RAY_ADDRESS={os.environ.get('RAY_ADDRESS', '')!r}): "
            f"{str(error).strip().splitlines()[0]} "
            "Start one with `ray start --head`, pass cluster.address=local, or try again when the machine has less to do."
        ) from error
    total = ray.cluster_resources()
    address = ray.get_runtime_context().gcs_address if joined else None
    gpus = total.get("GPU", 0.0)
    return Resources(cpus=total.get("CPU", 0.0), gpus=gpus, joined=address, gpu=cluster_gpu() if gpus else None)


def cluster_gpu() -> Gpu | None:
    """Ask a GPU of the cluster for its name and memory, in a process of its own: a driver may have none. None if all are busy."""
    ask: Any = ray.remote(num_cpus=0, num_gpus=GPU_SHARE, max_retries=0, runtime_env={"env_vars": import_path()})(smallest_gpu)
    answer = ask.remote()
    try:
        return ray.get(answer, timeout=GPU_TIMEOUT_S)
    except (ray.exceptions.GetTimeoutError, ray.exceptions.RayError):
        ray.cancel(answer, force=True)
        return None


def local_cpus(cfg: Config) -> int:
    """Return the CPUs of a local cluster."""
    return cfg.cluster.cpus or os.cpu_count() or 1


def refuse_without_token(cfg: Config) -> None:
    """Report a missing token at once: Ray would try for 20 seconds, and then report that the cluster cannot be reached.

    Ray sends its token by default only to a cluster that it finds by itself. To a named cluster, which may belong to anyone, Ray sends it
    only with RAY_AUTH_MODE=token.
    """
    address, source = would_join(cfg)
    if address is None or "://" in address:
        return
    here, mode = token(), os.environ.get("RAY_AUTH_MODE")
    there = here.status is Status.OK
    named = source in ("cluster.address", "RAY_ADDRESS")
    if mode is None and there and not named:
        os.environ["RAY_AUTH_MODE"] = mode = "token"  # as Ray would
    if mode == "token" and not there:
        raise BadInput(f"RAY_AUTH_MODE=token, and there is no token here to join the Ray cluster at {address} with. {COPY}")
    try:
        GcsClient(address=address)
    except ray.exceptions.AuthenticationError as error:
        if mode == "token":
            told = f"it wants another token than the one here: {here.found}. {COPY}"
        elif there:
            told = f"it wants a token. Set RAY_AUTH_MODE=token to show it the one that is here: {here.found}"
        else:
            told = f"it wants a token. {COPY}, with RAY_AUTH_MODE=token"
        raise BadInput(f"the Ray cluster at {address} does not let this run in: {told}") from error
    except ray.exceptions.RayError:
        return  # joining it will say what is wrong


def _init(address: str | None, common: dict[str, Any], local: dict[str, Any]) -> bool:
    """Start a local cluster, or join the one that is named or that Ray finds. Returns whether one was joined."""
    if address in (None, "local"):
        hang_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # Ray's processes inherit this, so that only the driver reacts to a hang-up
        try:
            with on_loopback():
                ray.init(address=address, **common, **local)
            return False
        except ValueError as error:  # Ray raises this if it found a cluster, which has fixed resources
            if "existing cluster" not in str(error):
                raise
        finally:
            signal.signal(signal.SIGHUP, hang_up)
    ray.init(address=address, **common)
    return True


@contextmanager
def on_loopback() -> Iterator[None]:
    """Have a cluster that `ray.init` starts in this context listen on 127.0.0.1 only, so that no other machine reaches it.

    Ray binds its servers to the loopback address when the node's address is exactly that, but replaces it by the outside one unless
    clusters of several machines are switched off, as on Windows. Joining a cluster must stay outside: it needs the outside address.
    """
    several_machines = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several_machines


def fetch_model(cfg: Config) -> None:
    """Download a hub model here and then on each other node, before actors start and their time counts. Raises BadInput.

    On nodes that share the cache, the second download finds all files and ends at once.
    """
    if download_model(cfg.model):
        on_other_nodes(download_model, cfg.model)


def on_other_nodes(function: Callable[..., Any], *args: Any) -> list[Any]:
    """Call a function in a process on every other node of the cluster at the same time; return the results. Raises BadInput."""
    here = ray.get_runtime_context().get_node_id()
    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"] and node["NodeID"] != here}
    task: Any = ray.remote(num_cpus=0, runtime_env={"env_vars": import_path()})(function)
    calls = {node: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(*args) for node in nodes}
    results = []
    for node, call in calls.items():
        try:
            results.append(ray.get(call))
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            raise BadInput(f"node {nodes[node]} of the Ray cluster is not ready: {cause}") from error
    return results


def place_model(cfg: Config, resources: Resources) -> None:
    """Make model.path absolute: actors of a joined cluster have another working directory. Actors of a job work in its copy."""
    if resources.joined and enclosing_job_copy(Path.cwd()) is None:
        cfg.model.path = absolute_path(cfg.model)
