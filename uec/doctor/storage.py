"""Checks of storage: shared memory, disks, caches, the model, the hub."""

import math
import os
import shutil
import tempfile
import threading
from pathlib import Path

from uec.config.schema import Config
from uec.config.validate import check_context, check_disk
from uec.doctor.check import Check, fail, mib, note, ok
from uec.errors import BadInput
from uec.models.pretrained import context_length, load_config, load_tokenizer, locate_model, resolve_model
from uec.models.weight_files import read_headers
from uec.system.hub import is_offline, why_unreachable

SHARED_MEMORY = Path("/dev/shm")
HUB_TIMEOUT_S = 8.0  # includes name resolution, which can be slower than any connection
CACHE_BYTES = 1 << 30  # for compiled code, with a margin


def shared_memory(cfg: Config, parameters: int | None, cuda: bool) -> Check:
    """Check the room for two versions of the weights (on CPU) and for Ray's object store, if the run starts Ray."""
    name = "shared memory"
    if not SHARED_MEMORY.is_dir():
        return fail(name, f"there is no folder {SHARED_MEMORY}", f"mount it: `mount -t tmpfs -o size=8g tmpfs {SHARED_MEMORY}`")
    free = shutil.disk_usage(SHARED_MEMORY).free
    weights = 0 if cuda or cfg.weights.backend not in ("auto", "shm") else 2 * 4 * (parameters or 0)
    need = weights + (cfg.store_mb() << 20)
    found = f"{mib(free)} free, two copies of the weights take {mib(weights)}, Ray's objects {mib(cfg.store_mb() << 20)}"
    fix = f"enlarge it: `docker run --shm-size={need * 2 // 2**20}m`, or `mount -o remount,size={need * 2 // 2**20}m {SHARED_MEMORY}`"
    if free < weights or not os.access(SHARED_MEMORY, os.W_OK):
        return fail(name, found, fix)
    if free < need:  # Ray then keeps its objects in /tmp
        return note(name, found, f"it works, but slower; {fix}")
    return ok(name, found)


def run_folder(cfg: Config) -> Check:
    """Check the disk space for runs, by the same rule as `uec train`."""
    place = Path(cfg.run.dir).resolve()
    try:
        check_disk(cfg, place)
    except BadInput as error:
        return fail("disk", str(error), "run.dir=FOLDER names another disk, checkpoint.keep keeps fewer")
    while not place.exists():
        place = place.parent
    return ok("disk", f"{mib(shutil.disk_usage(place).free)} free for {Path(cfg.run.dir)}")


def cache_folder(environment: dict[str, str]) -> Check:
    """Check that compiled code has a persistent folder, set by uec/system/process_env.py or by the user's variables."""
    place = Path(environment.get("TORCHINDUCTOR_CACHE_DIR") or os.environ.get("TORCHINDUCTOR_CACHE_DIR") or Path.home() / ".cache")
    there = place
    while not there.exists():
        there = there.parent
    fix = "set XDG_CACHE_HOME to a writable, persistent folder; without a cache every run compiles again"
    try:
        with tempfile.TemporaryFile(dir=there, prefix=".uec-"):
            pass
        free = shutil.disk_usage(there).free
    except OSError as error:
        return fail("cache", f"{place} cannot be written ({error.strerror})", fix)
    if free < CACHE_BYTES:
        return fail("cache", f"{place} has {mib(free)} free, compiled code takes up to {mib(CACHE_BYTES)}", fix)
    return ok("cache", f"{place}, {mib(free)} free")


def model(cfg: Config) -> Check:
    """Check the model's folder or hub name, its config and its tokenizer."""
    try:
        resolve_model(cfg.model)
        kind = type(load_config(cfg.model)).__name__.removesuffix("Config")
        load_tokenizer(cfg.model)
        check_context(cfg, context_length(cfg.model))
    except BadInput as error:
        return fail("model", str(error), "model.path=FOLDER names a folder in Hugging Face format")
    size = parameters_of(cfg)
    return ok("model", f"{cfg.model.path}: {kind}" + (f", {size / 1e6:.1f} M parameters" if size else ""))


def hub(cfg: Config) -> Check:
    """Check whether the hub answers; it is not needed if the model is a folder."""
    folders = Path(cfg.model.path).expanduser().is_dir()
    fix = "" if folders else "model.path needs the hub or its cache: give a folder"
    if is_offline():
        return note("hub", "HF_HUB_OFFLINE is set: only folders and the cache are used", fix)
    reason = _hub_problem(HUB_TIMEOUT_S)
    if reason is None:
        return ok("hub", "answers")
    return note("hub", f"no hub: pass folders ({reason})", fix)


def parameters_of(cfg: Config) -> int | None:
    """Return the model's number of parameters, from its files' headers; None if the model is not on this machine."""
    try:
        folder = Path(locate_model(cfg.model))
        headers = read_headers(folder) if folder.is_dir() else {}
    except BadInput:
        return None
    return sum(math.prod(header.shape) for header in headers.values()) or None


def _hub_problem(timeout_s: float) -> str | None:
    """Return why the hub cannot be reached, or None; gives up after `timeout_s`, as name resolution without a network takes minutes."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(why_unreachable()), daemon=True)
    thread.start()
    thread.join(timeout_s)
    return found[0] if found else f"no answer within {timeout_s:g} s"
