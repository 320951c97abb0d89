"""A step of the default run: its time by parts, the Controller's share, start-up time and peak memory.

This runs `uec train configs/llm.yaml` as a user does, with STEPS steps and without evaluations, and reads its metrics.jsonl.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import fmean, median

from bench.memory import PeakMemory
from bench.metric import Metric, Target
from bench.task import TEXT
from uec.config.file import load_config
from uec.config.presets import PROJECT
from uec.errors import RunFailed
from uec.tracking.metrics_file import METRICS_FILE, read_metrics

STEPS = 25
POLL_S = 0.02
STEP_S, START_S, CONTROLLER_SHARE, MEMORY_GIB = 0.75, 20.0, 0.04, 5.0
SPLIT = ("generate", "reward", "learn", "sync")


def measure(scratch: Path, steps: int = STEPS) -> list[Metric]:
    rows, start_s, memory = _run(scratch / "on-policy", steps)
    counted = _counted(rows)
    step_s = [row["time/step_s"] for row in counted]
    parts = {part: fmean(row.get(f"time/{part}_s", 0.0) for row in counted) for part in SPLIT}
    parts["rest"] = fmean(step_s) - sum(parts.values())
    tokens = fmean(row["rollout/tokens"] for row in counted)
    split = "mean split: " + ", ".join(f"{part} {seconds:.3f} s" for part, seconds in parts.items())
    return [
        Metric(
            "step, median",
            median(step_s),
            "s",
            Target(STEP_S),
            note=f"steps {counted[0]['step']:.0f} to {counted[-1]['step']:.0f}; {split}",
        ),
        Metric("step, mean (replay updates at their share)", fmean(step_s), "s", Target(STEP_S)),
        Metric("generated tokens over the whole step", tokens / fmean(step_s), "tokens/s", note=f"{tokens:.0f} tokens a step"),
        Metric(
            "Controller's CPU time of the step",
            median(row["time/controller_s"] / row["time/step_s"] for row in counted),
            "of the step",
            Target(CONTROLLER_SHARE),
        ),
        Metric("start of `uec train` to first step", start_s, "s", Target(START_S)),
        Metric(
            "peak memory of all processes (PSS)",
            memory.peak / 2**30,
            "GiB",
            Target(MEMORY_GIB),
            note=f"sampled; the sampling used {memory.cpu_s:.1f} s of CPU time during the run",
        ),
    ]


def _counted(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    """Return the rows of whole periods of `replay.every` steps after the first, which warms up: replay updates have their true share."""
    every = load_config(TEXT, []).replay.every
    return rows[every : len(rows) - len(rows) % every] or rows[1:]


def _run(scratch: Path, steps: int, *overrides: str) -> tuple[list[dict[str, float]], float, PeakMemory]:
    """Run `uec train`; return its metrics.jsonl, the seconds from its start to its first step, and its memory."""
    scratch.mkdir()
    settings = [f"train.steps={steps}", "data.eval=null", "checkpoint.every=0", "tracking=[jsonl]", "cluster.address=local", *overrides]
    command = [sys.executable, "-m", "uec.commands.cli", "train", str(TEXT), *settings, f"run.dir={scratch}", "run.name=run"]
    log, metrics = scratch / "run.log", scratch / "run" / METRICS_FILE
    first_line_s = None
    with log.open("wb") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        try:
            with PeakMemory(process.pid) as memory:
                while process.poll() is None:
                    if first_line_s is None and metrics.exists() and metrics.stat().st_size:
                        first_line_s = time.perf_counter() - begin
                    time.sleep(POLL_S)
        finally:
            process.terminate()
            process.wait()
    if process.returncode != 0 or first_line_s is None:
        raise RunFailed(f"{' '.join(command)} ended with status {process.returncode}; see {log}\n{log.read_text(errors='replace')[-2000:]}")
    rows = read_metrics(metrics)
    return rows, first_line_s - rows[0]["time/step_s"], memory
