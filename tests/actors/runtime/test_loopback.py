"""A cluster that the driver starts is out of reach of other machines."""

import ipaddress
import json
import subprocess
import sys

import pytest
from ray._private import ray_constants

from actors.runtime.cluster import on_loopback

LISTENERS = """
import json, psutil, ray
from actors.runtime.cluster import connect
from uec.config.schema import Config

cfg = Config()
cfg.cluster.address, cfg.cluster.cpus = "local", 1
connect(cfg, "test")

@ray.remote
class Worker:
    def address(self):
        return ray.util.get_node_ip_address()

worker = Worker.remote()
found = [["worker", ray.get(worker.address.remote())]]
for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
    try:
        found += [[process.name(), c.laddr.ip] for c in process.net_connections("inet") if c.status == "LISTEN"]
    except psutil.NoSuchProcess:
        pass
print(json.dumps(found))
"""


@pytest.mark.e2e
def test_every_process_of_a_local_cluster_listens_on_the_loopback_address_only() -> None:
    done = subprocess.run([sys.executable, "-c", LISTENERS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert {"gcs_server", "raylet"} <= {name for name, _ in found}
    outside = [(name, ip) for name, ip in found if not ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback]
    assert outside == []


def test_rays_switch_is_back_after_a_start_that_fails() -> None:
    before = ray_constants.ENABLE_RAY_CLUSTER
    with pytest.raises(ValueError, match="existing cluster"), on_loopback():
        assert ray_constants.ENABLE_RAY_CLUSTER is False
        raise ValueError("existing cluster")
    assert ray_constants.ENABLE_RAY_CLUSTER is before
