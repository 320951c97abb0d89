"""The last part of set-up: a short training run, so that everything that is compiled or inspected once a machine is in its cache.

Without it the first run would wait for DeepSpeed's communication operator and vLLM's sampler (about a minute each), and
it shows that what was installed works together. The run is the default one, cut short: caches are hit only by the same settings.
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
    """Run it; returns an exit status."""
    begin = time.perf_counter()
    print("setup: two steps of the default run, in which DeepSpeed and vLLM compile what they need (a few minutes, once a machine)")
    with tempfile.TemporaryDirectory(prefix="uec-warm-up-") as folder:
        status = _train(folder)
    took = f"{time.perf_counter() - begin:.0f} s"
    if status:
        print(f"setup: the run ended with status {status} after {took}; its messages are above. Mend that, then call make setup again.")
        return 1
    print(f"setup:     done in {took}")
    return 0


def _train(folder: str) -> int:
    command = [sys.executable, "-u", "-m", "uec.commands.cli", "train", str(CONFIG), *SHORT, f"run.dir={folder}", "run.name=warm-up"]
    pipe = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=CONFIG.parent.parent, **pipe) as run:
        for line in run.stdout:
            print(f"setup:     | {line}", end="", flush=True)
    return run.returncode


if __name__ == "__main__":
    sys.exit(main())
