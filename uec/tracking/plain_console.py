"""The console if stdout is no terminal: one line a step, no control characters."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from uec.config.schema import Config
from uec.system.process_env import discard_output
from uec.tracking.number_format import MISSING, count, decimal, duration, share
from uec.tracking.sink import Sink
from uec.tracking.summary import Summary, plain

WIDTH = 140  # of a line, unless COLUMNS is set
CLOCK = 8  # characters of the time before each line
PROGRESS_S = 10.0  # minimum seconds between two progress lines


@dataclass(frozen=True, slots=True)
class Cell:
    """One metric of a step's line."""

    importance: int  # the highest number is left out first
    label: str
    short: str  # label on a narrow line
    value: str
    width: int  # of the value, so that the lines are aligned

    def text(self, short: bool) -> str:
        label = self.short if short else self.label
        return f"{label} {self.value:>{self.width}}" if label else f"{self.value:>{self.width}}"


class PlainConsole(Sink):
    """Prints a line for each step, stage, event and evaluation."""

    def __init__(self) -> None:
        self._cfg = Config()
        self._began = self._last_progress = time.monotonic()

    def start(self, cfg: Config, folder: Path, step: int) -> None:
        self._cfg = cfg
        self._print_timed(f"UEC-RL {folder.name}: {cfg.algorithm} on {cfg.model.path}, {cfg.train.steps} steps, folder {folder}")

    def stage(self, text: str) -> None:
        self._print_timed(text)

    def event(self, text: str) -> None:
        self._print_timed(text)

    def progress(self, label: str, done: int, total: int) -> None:
        if done < total and time.monotonic() - self._last_progress > PROGRESS_S:
            self._last_progress = time.monotonic()
            self._print_timed(f"{label} {done}/{total}")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() else WIDTH
        self._print_timed(fitted(cells(self._cfg, step, metrics), width - CLOCK))

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        self._print_timed(evaluation_line(step, metrics))

    def finish(self, summary: Summary) -> None:
        self._print("\n" + plain(summary))

    def _print_timed(self, text: str) -> None:
        self._print(f"{duration(time.monotonic() - self._began):>{CLOCK - 2}}  {text}")

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # The reader has ended (`| head`, a closed terminal). The run continues, and the flush at exit must not fail.
            discard_output(sys.stdout.fileno())


def evaluation_line(step: int, metrics: dict[str, float]) -> str:
    """Return a line such as `evaluation at step 50: pass@1 0.412, pass@8 0.790, entropy 1.204`."""
    values = [f"{key.removeprefix('eval/')} {decimal(metrics[key])}" for key in (*pass_keys(metrics), "eval/entropy") if key in metrics]
    return f"evaluation at step {step}: " + ", ".join(values)


def pass_keys(metrics: dict[str, float]) -> list[str]:
    """Return the keys of pass@k, without those of its interval."""
    return [key for key in metrics if key.startswith("eval/pass@") and not key.endswith(("_low", "_high"))]


def cells(cfg: Config, step: int, metrics: dict[str, float]) -> list[Cell]:
    """Return the cells of a step's line; a part of the algorithm that is switched off has no cell."""
    m = metrics.get
    steps = cfg.train.steps
    line = [
        Cell(0, "step", "step", f"{step}/{steps}", 2 * len(str(steps)) + 1),
        Cell(8, "", "", f"{decimal(m('time/step_s'), 2)} s", 7),
        Cell(1, "reward", "rew", decimal(m("reward/mean")), 5),
        Cell(2, "accuracy", "acc", decimal(m("reward/accuracy_mean")), 5),
        Cell(3, "entropy", "ent", decimal(m("policy/entropy")), 5),
        Cell(4, "difficult", "diff", share(m("explore/difficult_frac")), 5),
    ]
    if cfg.exploration.enabled:
        line.append(Cell(5, "solved", "solved", f"{solved(metrics)}/{decimal(m('explore/groups'), 0)}", 5))
    line.append(Cell(6, "kept", "kept", share(m("retain/kept_frac")), 5))
    if cfg.replay.enabled:
        line.append(Cell(10, "replay", "replay", f"{count(m('replay/size'))}/{count(cfg.replay_capacity())}", 9))
    line.append(Cell(7, "", "", f"{count(m('rollout/tokens_per_s'))} tok/s", 11))
    line.append(Cell(9, "", "", f"v{decimal(m('weights/version'), 0)}", len(str(steps)) + 1))
    return line


def solved(metrics: dict[str, float]) -> str:
    """Return how many prompts exploration solved."""
    return f"{metrics.get('explore/groups', 0.0) * metrics.get('explore/solved_frac', 0.0):.0f}"


def engine_rates(metrics: dict[str, float], engines: int, width: int) -> str:
    """Return tokens/s of each engine, or the slowest to the fastest if `width` is too small for all; empty if unknown."""
    each = [count(metrics.get(f"rollout/engine_{number}_tokens_per_s")) for number in range(engines)]
    low, high = (metrics.get(f"rollout/engine_tokens_per_s_{end}") for end in ("min", "max"))
    if low is None or high is None:
        return ""
    if engines == 1:
        return count(low)
    listed = "  ".join(each)
    return listed if set(each) != {MISSING} and len(listed) + len(" tokens/s") <= width else f"{count(low)} to {count(high)}"


def fitted(line: list[Cell], width: int) -> str:
    """Return a line of at most `width` characters: if necessary, labels are shortened and then the least important cells left out."""
    for short in (False, True):
        text = "  ".join(cell.text(short) for cell in line)
        if len(text) <= width:
            return text
    least = max(line, key=lambda cell: cell.importance)
    return fitted([cell for cell in line if cell is not least], width) if len(line) > 1 else text
