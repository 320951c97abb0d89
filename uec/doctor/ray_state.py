"""What Ray will do when a run starts, without asking it: join or start a cluster, with or without a token."""

import os
from pathlib import Path

from uec.config import Config
from uec.doctor.check import Check, note, ok

TOKEN_FILE = Path.home() / ".ray" / "auth_token"
GENERATE = "`ray get-auth-token --generate`, then RAY_AUTH_MODE=token for `ray start` and for every client"


def token() -> Check:
    """Authentication: Ray switches it on by itself only for a local cluster that a run starts."""
    name = "ray token"
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return note(name, "RAY_AUTH_MODE=disabled: whoever reaches the cluster runs code on it", GENERATE)
    given = os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH")
    if given or TOKEN_FILE.exists():
        where = "RAY_AUTH_TOKEN" if os.environ.get("RAY_AUTH_TOKEN") else os.environ.get("RAY_AUTH_TOKEN_PATH") or str(TOKEN_FILE)
        return ok(name, f"there is one ({where}): authentication is on")
    return note(name, "none yet: a run makes one for a local cluster, `ray start` would be open", GENERATE)


def would_join(cfg: Config) -> str | None:
    """Address of the cluster that a run looks for; None: it starts its own."""
    if cfg.cluster.address not in ("auto", "local"):
        return cfg.cluster.address
    if cfg.cluster.address == "local":
        return None
    if os.environ.get("RAY_ADDRESS"):
        return os.environ["RAY_ADDRESS"]
    file = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
    return file.read_text().strip() or None if file.exists() else None
