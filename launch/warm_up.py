"""The last part of set-up: a short training run that fills the caches of compiled code on this machine.

Without it the first run would compile DeepSpeed's communication operator and vLLM's sampler (about a minute each). It also checks that the
installed packages work together. The run is a short version of the default one, because the caches depend on the settings.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).resolve().parent.parent / "configs/llm.yaml"
SHORT = (
    "train.steps=2",
    "replay.every=1",
    "replay.min_rows=1",
    "eval.prompts=16",
    "checkpoint.every=0",
    "tracking=[console, jsonl]",
    "cluster.address=local",
    "cluster.start_timeout_s=900",
    "weights.timeout_s=900",
    "run.save_rollouts=false",
)


def main() -> int:
    """Run the training; return an exit status."""
    begin = time.perf_counter()
    print("setup: two steps of the default run, in which DeepSpeed and vLLM compile code (a few minutes, once per machine)")
    with tempfile.TemporaryDirectory(prefix="uec-warm-up-") as folder:
        status = _train(folder)
    duration = f"{time.perf_counter() - begin:.0f} s"
    if status:
        print(f"setup: the run ended with status {status} after {duration}; see its messages above, then run make setup again.")
        return 1
    print(f"setup:     done in {duration}")
    return 0


def _train(folder: str) -> int:
    """Run `uec train` in `folder` and print its output; return its exit status."""
    command = [sys.executable, "-u", "-m", "uec.commands.cli", "train", str(CONFIG), *SHORT, f"run.dir={folder}", "run.name=warm-up"]
    pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=CONFIG.parent.parent, **pipe) as run:
        for line in run.stdout:
            print(f"setup:     | {line}", end="", flush=True)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
