"""Where things are kept and fetched from: shared memory, disks, caches, the model, the hub."""

import json
import math
import os
import shutil
import struct
import tempfile
import threading
from pathlib import Path

from uec.config.schema import Config
from uec.config.validate import check_context, check_disk
from uec.doctor.check import Check, fail, mib, note, ok
from uec.errors import BadInput
from uec.models.source import context_length, load_config, load_tokenizer, resolve_model
from uec.system.hub import is_offline, why_unreachable

SHARED_MEMORY = Path("/dev/shm")
HUB_PATIENCE_S = 8.0  # a resolver that gets no answer is slower than any connection
CACHE_BYTES = 1 << 30  # of compiled code, and some room


def shared_memory(cfg: Config, parameters: int | None, cuda: bool) -> Check:
    """On CPU, two versions of the weights lie there in turn; and Ray's object store, where it is our own."""
    name = "shared memory"
    if not SHARED_MEMORY.is_dir():
        return fail(name, f"there is no folder {SHARED_MEMORY}", f"mount it: `mount -t tmpfs -o size=8g tmpfs {SHARED_MEMORY}`")
    free = shutil.disk_usage(SHARED_MEMORY).free
    weights = 0 if cuda or cfg.weights.backend not in ("auto", "shm") else 2 * 4 * (parameters or 0)
    need = weights + (cfg.cluster.object_store_mb << 20)
    found = f"{mib(free)} free, two copies of the weights take {mib(weights)}, Ray's objects {mib(cfg.cluster.object_store_mb << 20)}"
    fix = f"enlarge it: `docker run --shm-size={need * 2 // 2**20}m`, or `mount -o remount,size={need * 2 // 2**20}m {SHARED_MEMORY}`"
    if free < weights or not os.access(SHARED_MEMORY, os.W_OK):
        return fail(name, found, fix)
    if free < need:  # Ray then keeps its objects in /tmp
        return note(name, found, f"it works, slower; {fix}")
    return ok(name, found)


def run_folder(cfg: Config) -> Check:
    """Room for runs, by the rule that `uec train` refuses to start by."""
    place = Path(cfg.run.dir).resolve()
    try:
        check_disk(cfg, place)
    except BadInput as error:
        return fail("disk", str(error), "run.dir=FOLDER names another disk, checkpoint.keep keeps fewer")
    while not place.exists():
        place = place.parent
    return ok("disk", f"{mib(shutil.disk_usage(place).free)} free for {Path(cfg.run.dir)}")


def cache_folder(environment: dict[str, str]) -> Check:
    """Compiled code has a place that stays; by the variables that uec/system/process_env.py gives, or the user's own."""
    place = Path(environment.get("TORCHINDUCTOR_CACHE_DIR") or os.environ.get("TORCHINDUCTOR_CACHE_DIR") or Path.home() / ".cache")
    there = place
    while not there.exists():
        there = there.parent
    fix = "set XDG_CACHE_HOME to a folder that is writable and stays; without a cache every run compiles anew"
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
    """The model's folder or name, its config and its tokenizer."""
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
    """Not needed where model and data are folders."""
    folders = Path(cfg.model.path).expanduser().is_dir()
    fix = "" if folders else "model.path needs the hub or its cache: give a folder"
    if is_offline():
        return note("hub", "HF_HUB_OFFLINE is set: folders and what is in the cache", fix)
    reason = _in_time(HUB_PATIENCE_S)
    if reason is None:
        return ok("hub", "answers")
    return note("hub", f"no hub: pass folders ({reason})", fix)


def parameters_of(cfg: Config) -> int | None:
    """Parameters of the model by its files' headers; None where it is not here."""
    try:
        folder = Path(resolve_model(cfg.model))
    except BadInput:
        return None
    sizes = [_numbers(file) for file in folder.glob("*.safetensors")] if folder.is_dir() else []
    return sum(sizes) or None


def _numbers(file: Path) -> int:
    """How many numbers a safetensors file holds: a length of 8 bytes, then a header in JSON."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _in_time(patience_s: float) -> str | None:
    """why_unreachable(), given up after a while: name resolution without a network can take minutes."""
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(why_unreachable()), daemon=True)
    thread.start()
    thread.join(patience_s)
    return found[0] if found else f"no answer within {patience_s:g} s"
