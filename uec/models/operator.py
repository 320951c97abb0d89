"""DeepSpeed's communication operator for CPUs, which torch compiles on first use and then keeps (see uec/system/process_env.py)."""

import fcntl
import os
from pathlib import Path


def load_operator() -> None:
    """Load it before DeepSpeed does, a process of a machine at a time; on CUDA there is none.

    torch marks a build by a file `lock`, which a process that is killed leaves behind and all later ones wait for, for ever. Whoever
    holds our lock, which ends with its process, knows that no other one builds, and takes that file away.
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
