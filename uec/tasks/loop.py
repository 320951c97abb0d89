"""The shared parts of every cold start: the command line, the training loop with its progress bar, and the digest of the result."""

import argparse
import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import PreTrainedModel

LOSS_EVERY = 100

OnStep = Callable[[int, float], None]
"""(steps done, loss of the last step)"""


class Schedule(Protocol):
    """The fields of a recipe that the training loop reads."""

    @property
    def steps(self) -> int: ...
    @property
    def lr(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def grad_clip(self) -> float: ...
    def lr_at(self, step: int) -> float: ...


def be_deterministic() -> None:
    """Use one thread and deterministic kernels, so that the same command writes the same bytes."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def fit(model: PreTrainedModel, schedule: Schedule, next_loss: Callable[[], torch.Tensor], on_step: OnStep) -> None:
    """Train the model with AdamW, one step for each loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.lr, betas=schedule.betas, weight_decay=schedule.weight_decay, fused=True)
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr_at(step)
        loss = next_loss()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.grad_clip)
        optimizer.step()
        on_step(step + 1, float(loss.detach()))


@contextmanager
def progress(console: Console, steps: int) -> Iterator[OnStep]:
    """Show a progress bar with the loss, or print a line every 100 steps if there is no terminal."""
    begin = time.process_time()
    loss_column = TextColumn("loss {task.fields[loss]:.3f}")
    with Progress(BarColumn(), MofNCompleteColumn(), loss_column, TimeRemainingColumn(), console=console) as bars:
        bar = bars.add_task("", total=steps, loss=float("nan"))

        def on_step(step: int, loss: float) -> None:
            bars.update(bar, completed=step, loss=loss)
            if not console.is_terminal and step % LOSS_EVERY == 0:
                console.print(f"step {step} of {steps}: loss {loss:.4f}, {time.process_time() - begin:.0f} CPU s")

        yield on_step


def command_line(task: str, out: Path, recipe: Any, run: Callable[[Path, Any, Console], None], argv: list[str] | None) -> int:
    """Read the arguments of `python -m uec.tasks.TASK.make` and call `run(folder, recipe, console)`. Return the exit status.

    The recipe is a dataclass with `steps` and `seed`, which the arguments replace.
    """
    parser = argparse.ArgumentParser(prog=f"python -m uec.tasks.{task.lower()}.make", description=f"Make the initial model of {task}.")
    parser.add_argument("--out", type=Path, default=out, help=f"folder to write (default {out}); files of the same name are replaced")
    parser.add_argument("--steps", type=int, default=recipe.steps, help="optimizer steps (default %(default)s)")
    parser.add_argument("--seed", type=int, default=recipe.seed, help="of weights and demonstrations (default %(default)s)")
    arguments = parser.parse_args(argv)
    run(arguments.out, replace(recipe, steps=arguments.steps, seed=arguments.seed), Console(highlight=False, soft_wrap=True))
    return 0


def sha256(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
