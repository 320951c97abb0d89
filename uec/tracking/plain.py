"""The console where stdout is no terminal: one line a step, no control characters."""

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from uec.config.schema import Config
from uec.system.process_env import silence
from uec.tracking.figures import MISSING, count, decimal, duration, share
from uec.tracking.sink import Sink
from uec.tracking.summary import Summary, plain

WIDTH = 140  # of a log file; COLUMNS says otherwise
CLOCK = 8  # characters of the time before each line
PROGRESS_S = 10.0  # seconds between two lines about the same progress


@dataclass(frozen=True, slots=True)
class Cell:
    """One figure of a step's line."""

    importance: int  # the highest number is left out first
    label: str
    short: str  # label where there is little room
    figure: str
    width: int  # of the figure, so that lines stand under each other

    def text(self, short: bool) -> str:
        label = self.short if short else self.label
        return f"{label} {self.figure:>{self.width}}" if label else f"{self.figure:>{self.width}}"


class PlainConsole(Sink):
    """Prints and forgets."""

    def __init__(self) -> None:
        self._cfg = Config()
        self._began = self._told = time.monotonic()

    def start(self, cfg: Config, folder: Path, step: int) -> None:
        self._cfg = cfg
        self._say(f"UEC-RL {folder.name}: {cfg.algorithm} on {cfg.model.path}, {cfg.train.steps} steps, folder {folder}")

    def stage(self, text: str) -> None:
        self._say(text)

    def event(self, text: str) -> None:
        self._say(text)

    def progress(self, label: str, done: int, total: int) -> None:
        if done < total and time.monotonic() - self._told > PROGRESS_S:
            self._told = time.monotonic()
            self._say(f"{label} {done}/{total}")

    def log(self, step: int, metrics: dict[str, float]) -> None:
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() else WIDTH
        self._say(fitted(cells(self._cfg, step, metrics), width - CLOCK))

    def evaluation(self, step: int, metrics: dict[str, float]) -> None:
        self._say(evaluation_line(step, metrics))

    def finish(self, summary: Summary) -> None:
        self._print("\n" + plain(summary))

    def _say(self, text: str) -> None:
        self._print(f"{duration(time.monotonic() - self._began):>{CLOCK - 2}}  {text}")

    def _print(self, text: str) -> None:
        try:
            print(text, flush=True)
        except OSError:
            # Who read the lines is gone (`| head`, a closed terminal). The run and its files go on, and so must the flush at exit.
            silence(sys.stdout.fileno())


def evaluation_line(step: int, metrics: dict[str, float]) -> str:
    """evaluation at step 50: pass@1 0.412, pass@8 0.790, entropy 1.204"""
    figures = [f"{key.removeprefix('eval/')} {decimal(metrics[key])}" for key in (*pass_keys(metrics), "eval/entropy") if key in metrics]
    return f"evaluation at step {step}: " + ", ".join(figures)


def pass_keys(metrics: dict[str, float]) -> list[str]:
    """The keys of pass@k itself, without those of its interval."""
    return [key for key in metrics if key.startswith("eval/pass@") and not key.endswith(("_low", "_high"))]


def cells(cfg: Config, step: int, metrics: dict[str, float]) -> list[Cell]:
    """What a step's line says; a part of the algorithm that is switched off has no cell."""
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
    """How many prompts exploration solved."""
    return f"{metrics.get('explore/groups', 0.0) * metrics.get('explore/solved_frac', 0.0):.0f}"


def engine_rates(metrics: dict[str, float], engines: int, width: int) -> str:
    """Tokens/s of each engine, or from the slowest to the fastest where `width` characters do not hold each; nothing if not known."""
    each = [count(metrics.get(f"rollout/engine_{number}_tokens_per_s")) for number in range(engines)]
    low, high = (metrics.get(f"rollout/engine_tokens_per_s_{end}") for end in ("min", "max"))
    if low is None or high is None:
        return ""
    if engines == 1:
        return count(low)
    listed = "  ".join(each)
    return listed if set(each) != {MISSING} and len(listed) + len(" tokens/s") <= width else f"{count(low)} to {count(high)}"


def fitted(line: list[Cell], width: int) -> str:
    """At most `width` characters: where they do not suffice labels get shorter, then the least important cells go."""
    for short in (False, True):
        text = "  ".join(cell.text(short) for cell in line)
        if len(text) <= width:
            return text
    least = max(line, key=lambda cell: cell.importance)
    return fitted([cell for cell in line if cell is not least], width) if len(line) > 1 else text
