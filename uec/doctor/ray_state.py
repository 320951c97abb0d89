"""Checks of Ray that do not start it: whether a run will join or start a cluster, with or without a token."""

import os
import socket
from pathlib import Path

from uec.config.schema import Config
from uec.doctor.check import Check, fail, note, ok

TOKEN_FILE = Path(".ray") / "auth_token"  # in the home folder
GENERATE = "`ray get-auth-token --generate`, then RAY_AUTH_MODE=token for `ray start` and for every client"
CONNECT_TIMEOUT_S = 5.0


def token() -> Check:
    """Check authentication, which Ray enables by default only for a local cluster that a run starts."""
    name = "ray token"
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return note(name, "RAY_AUTH_MODE=disabled: anyone who can reach the cluster can run code on it", GENERATE)
    if os.environ.get("RAY_AUTH_TOKEN"):
        return ok(name, "there is one (RAY_AUTH_TOKEN)")
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / TOKEN_FILE)
    if file.exists():
        return ok(name, f"there is one ({file})")
    return note(name, f"none yet in {file}: a run makes one for a local cluster, `ray start` would be open", GENERATE)


def cluster(cfg: Config) -> Check:
    """Check that the cluster that a run would join answers; Ray itself would try a dead address for many minutes."""
    name = "ray cluster"
    address, source = would_join(cfg)
    if address is None:
        return ok(name, f"{source}: a run starts a local one")
    host, _, port = address.rpartition("://")[2].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except ValueError:
        return fail(name, f"{source} names {address}, which is not HOST:PORT", "give it as HOST:PORT, as `ray start --head` prints it")
    except OSError as error:
        fix = "start it (`ray start --head`), or pass cluster.address=local to let the run start a cluster"
        return fail(name, f"{source} names {address}, where nothing answers ({error.strerror or error})", fix)
    return ok(name, f"{address} answers, a run joins it ({source})")


def would_join(cfg: Config) -> tuple[str | None, str]:
    """Return the address of the cluster that a run would join, None if it starts one; and the setting or file that decides it."""
    if cfg.cluster.address == "local":
        return None, "cluster.address=local"
    if cfg.cluster.address != "auto":
        return cfg.cluster.address, "cluster.address"
    if os.environ.get("RAY_ADDRESS", "auto") not in ("", "auto", "local"):
        return os.environ["RAY_ADDRESS"], "RAY_ADDRESS"
    file = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"  # written by `ray start`, and by `ray stop` removed
    address = file.read_text().strip() if file.exists() else ""
    return (address, str(file)) if address else (None, "none is running here")
