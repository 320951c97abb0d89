"""Sample the memory of the processes of a short real run on CPU, to compare it with the estimate.

It counts the same as `uec/memory/host.py`: pages that a process has written (RssAnon), those of a model mapped from its
file, and the weight sync's files in /dev/shm. `python -m tests.support.memory_run NAME=VALUE ...` measures one run with these
settings and prints both sides.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from uec.config.file import load_config
from uec.config.schema import Config
from uec.memory.allocations import MIB
from uec.memory.host import host_estimate
from uec.memory.shape import shape_of
from uec.memory.workload import Workload, worst_case
from uec.system.platform import detect

PROJECT = Path(__file__).resolve().parents[2]
INTERVAL_S = 0.02
ALONE = ("data.eval=null", "checkpoint.every=0", "tracking=[jsonl]", "cluster.address=local", "run.name=run")
SHORT = (
    "algorithm=grpo", "retention.min_abs_advantage=null", "replay.rows=null", "replay.capacity=null", "train.steps=2",
    "train.prompts_per_step=4", "rollout.max_tokens=32", "learner.micro_batch_tokens=1024",
)  # fmt: skip
"""For `big_model`, which is untrained: every response is kept, right or wrong."""

ACTORS = {"ray::LearnerActor": "learner", "ray::RolloutActor": "engine"}


@dataclass
class Measured:
    """Peaks in bytes."""

    of: dict[str, list[int]] = field(default_factory=lambda: {"learner": [], "engine": []})  # one per process
    total: int = 0
    sync: int = 0


def big_model(folder: Path, **sizes: int) -> Path:
    """Save a Qwen2 of 33 M random parameters, or of other sizes, with the Countdown tokenizer."""
    given = dict(hidden_size=768, intermediate_size=2304, num_hidden_layers=5, num_attention_heads=12, num_key_value_heads=2)
    given |= dict(vocab_size=111, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(tie_word_embeddings=True, max_position_embeddings=512, **(given | sizes)))
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight.mul_(15)
        embedding[2] = 0.0  # the end-of-text token: so unlikely that responses have full length
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(PROJECT / "assets/countdown" / name, folder / name)
    return folder


def measured(model: Path, folder: Path, *overrides: str) -> tuple[Config, Measured]:
    """Run `uec train configs/llm.yaml`, without evaluation and checkpoints. Raises AssertionError with its output if it fails."""
    settings = [*ALONE, f"model.path={model}", f"run.dir={folder}", *overrides]
    config = str(PROJECT / "configs/llm.yaml")
    log = folder / "memory_run.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "uec.commands.cli", "train", config, *settings]
        process = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        found = _watch(process)
    assert process.returncode == 0, log.read_text(errors="replace")[-3000:]
    return load_config(config, settings), found


def predicted(cfg: Config, workload: Workload) -> tuple[float, float, float]:
    """Return the bytes of a learner rank, of an engine, and of all without the object store, which a short run hardly uses."""
    estimate = host_estimate(cfg, shape_of(cfg.model, cfg.lora), detect(cfg, "cpu"), workload, store=0)
    by_name = {holder.name: holder.bytes for holder in estimate.holders}
    return by_name["learner"], by_name["engine"], estimate.bytes


def _watch(process: "subprocess.Popen[bytes]") -> Measured:
    found, names, mapped, listed = Measured(), dict[int, str](), dict[int, int](), 0.0
    peaks: dict[int, int] = {}
    while process.poll() is None:
        if time.monotonic() - listed > 0.5:
            listed = time.monotonic()
            names = {child: _title(child) for child in [process.pid, *_children(process.pid)]}
            mapped = {pid: _mapped_model(pid) for pid, name in names.items() if name.startswith("ray::LearnerActor")}
        sizes = {pid: _anonymous(pid) + mapped.get(pid, 0) for pid in names}
        for pid, size in sizes.items():
            peaks[pid] = max(size, peaks.get(pid, 0))
        sync = _sync_files()
        found.sync = max(found.sync, sync)
        found.total = max(found.total, sum(sizes.values()) + sync)
        for title, actor in ACTORS.items():
            there = [peaks[pid] for pid, name in names.items() if name.startswith(title)]
            found.of[actor] = there or found.of[actor]
        time.sleep(INTERVAL_S)
    return found


def _children(pid: int) -> list[int]:
    try:
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _anonymous(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:")), 0)


def _mapped_model(pid: int) -> int:
    """Return the bytes of weights that are mapped from their file and were not written."""
    total, inside = 0, False
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text().splitlines()
    except OSError:
        return 0
    for line in lines:
        if "-" in line.split(" ", 1)[0]:  # header of a mapping: its addresses, and at the end its file
            inside = line.endswith(".safetensors")
        elif inside and line.startswith(("Rss:", "Anonymous:")):
            total += (int(line.split()[1]) << 10) * (1 if line.startswith("Rss:") else -1)
    return total


def _sync_files() -> int:
    try:
        return sum(file.stat().st_blocks * 512 for file in Path("/dev/shm").glob("uec-weights-*/*.bin"))
    except OSError:  # removed at this moment
        return 0


def main() -> None:
    sizes = {name: int(value) for name, _, value in (word.partition("=") for word in sys.argv[1:]) if "." not in name}
    overrides = [word for word in sys.argv[1:] if "." in word.partition("=")[0]]
    os.environ["PYTHONPATH"] = str(PROJECT)
    with tempfile.TemporaryDirectory() as folder:
        cfg, found = measured(big_model(Path(folder) / "model", **sizes), Path(folder), *SHORT, *overrides)
        learner, engine, total = predicted(cfg, worst_case(cfg.data.max_prompt_tokens))
    for name, ours, theirs in (
        ("learner", learner, max(found.of["learner"])), ("engine", engine, max(found.of["engine"])), ("total", total, found.total),
    ):  # fmt: skip
        print(f"{name:<8} predicted {ours / MIB:6.0f} MiB  measured {theirs / MIB:6.0f} MiB  {ours / theirs - 1:+.0%}")


if __name__ == "__main__":
    main()
