"""DeepSpeed's communication operator for CPUs. torch compiles it on first use and caches it (see uec/system/process_env.py)."""

import fcntl
import os
from pathlib import Path


def load_operator() -> None:
    """Load the operator before DeepSpeed does, in one process of a machine at a time. On CUDA there is none.

    torch marks a build by a file `lock`. A killed process leaves it behind, and all later processes wait for it without end. The holder
    of our lock, which the system releases with its process, knows that no other process builds, and removes that file.
    """
    import deepspeed
    from deepspeed.accelerator import get_accelerator

    builder = get_accelerator().create_op_builder("ShareMemCommBuilder")
    cache = os.environ.get("TORCH_EXTENSIONS_DIR")
    if builder is None or cache is None or not deepspeed.ops.__compatible_ops__.get(builder.NAME, False):
        return
    folder = Path(cache) / builder.name
    folder.mkdir(parents=True, exist_ok=True)
    with open(Path(cache) / ".building", "w") as building:
        fcntl.flock(building, fcntl.LOCK_EX)
        (folder / "lock").unlink(missing_ok=True)
        builder.load()
