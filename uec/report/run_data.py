"""Read a run folder for the report: settings, metrics, events, and whether the run is still active."""

import errno
import fcntl
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from uec.config.fields import fields, is_section
from uec.config.file import SAVED_HEADER
from uec.config.schema import DifficultyConfig
from uec.errors import BadInput
from uec.report.jsonl import damaged, read_lines
from uec.tracking.jsonl import EVENTS_FILE
from uec.tracking.metrics_file import METRICS_FILE, read_metrics

NOT_A_RUN = "give the folder of a run, such as runs/NAME, which holds config.yaml and metrics.jsonl"


@dataclass(frozen=True, slots=True)
class Event:
    """A line of events.jsonl."""

    time: float  # seconds since 1970
    step: int
    text: str


@dataclass(frozen=True, slots=True)
class RunData:
    """A run up to now."""

    folder: Path
    label: str  # its name, with as much of the path as distinguishes it from the others
    settings: dict[str, Any]  # by dotted name
    rows: list[dict[str, float]]  # of metrics.jsonl, steps ascending
    events: list[Event]
    is_active: bool

    @property
    def algorithm(self) -> str:
        return Path(str(self.settings.get("algorithm", ""))).stem or "?"

    @property
    def solved_at(self) -> float:
        """Return the accuracy from which a response counts as right."""
        value = self.settings.get("difficulty.solved_at")
        return float(value) if isinstance(value, int | float) else DifficultyConfig().solved_at

    @property
    def seed(self) -> Any:
        return self.settings.get("run.seed")


def find_runs(paths: list[str]) -> list[Path]:
    """Return the absolute run folders. Raises BadInput for a path that is no run, or that is given twice."""
    folders: list[Path] = []
    for path in paths:
        folder = Path(path).resolve()
        if folder in folders:
            raise BadInput(f"{path} is given twice; name each run once")
        if not folder.exists():
            raise BadInput(f"{path} does not exist; {NOT_A_RUN}")
        if not folder.is_dir():
            raise BadInput(f"{path} is a file; {NOT_A_RUN}")
        if not (folder / "config.yaml").is_file():
            inside = sorted(each.parent.name for each in folder.glob("*/config.yaml"))
            hint = f"; did you mean one of those in it: {', '.join(inside[:5])}?" if inside else f"; {NOT_A_RUN}"
            raise BadInput(f"{path} is no run's folder: it has no config.yaml{hint}")
        folders.append(folder)
    return folders


def newest_run(place: Path) -> str:
    """Return the run in `place` that began last. Raises BadInput if there is none."""
    configs = sorted(place.glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    if not configs:
        raise BadInput(f"there is no run in {place}; {NOT_A_RUN}")
    return str(configs[-1].parent)


def read_runs(folders: list[Path]) -> list[RunData]:
    """Read the runs, in order. Raises BadInput that names a damaged file and line."""
    names = labels(folders)
    return [_read_run(folder, label) for folder, label in zip(folders, names, strict=True)]


def _read_run(folder: Path, label: str) -> RunData:
    active = is_active(folder)  # first, so that the last lines of a run that is ending are not missed
    return RunData(folder, label, _read_settings(folder), _read_rows(folder), _read_events(folder), active)


def labels(folders: list[Path]) -> list[str]:
    """Return the folders' names; equal names are extended by parent folders until all differ."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    names = [folder.name for folder in folders]
    return ["/".join(f.parts[-depth:]) if names.count(f.name) > 1 else f.name for f in folders]


def is_active(folder: Path) -> bool:
    """Return whether a process holds the lock of the run folder (see RunFolder)."""
    try:
        with (folder / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # released when the file is closed
    except FileNotFoundError:
        return False
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    return False


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by dotted name. A field that is itself a mapping, such as reward.weights, stays one."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and (is_section(key) or key not in fields()):
            found |= flat(value, f"{key}.")
        else:
            found[key] = value
    return found


def _read_settings(folder: Path) -> dict[str, Any]:
    """Read config.yaml without `load_config`, so that runs of earlier versions with other fields can be shown."""
    path = folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise BadInput(f"{path} holds no settings; {NOT_A_RUN}")
    if not text.startswith(SAVED_HEADER) and not (folder / METRICS_FILE).is_file():
        raise BadInput(f"{folder} is no run's folder: its config.yaml was not written by a run, and there is no {METRICS_FILE}")
    return flat(tree)


def _read_rows(folder: Path) -> list[dict[str, float]]:
    path = folder / METRICS_FILE
    rows = read_metrics(path) if path.is_file() else []
    for number, row in enumerate(rows, 1):
        for key, value in row.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise damaged(path, number, f"{key} is {str(value)[:40]!r}, expected a number")
        if not float(row["step"]).is_integer() or row["step"] < 0:
            raise damaged(path, number, f"step is {row['step']}, expected a whole number")
        if number > 1 and row["step"] <= rows[number - 2]["step"]:
            raise damaged(path, number, f"step {row['step']} comes after step {rows[number - 2]['step']}")
    return [{key: value for key, value in row.items() if math.isfinite(value)} for row in rows]


def _read_events(folder: Path) -> list[Event]:
    path = folder / EVENTS_FILE
    if not path.is_file():
        return []
    events = []
    for number, row in enumerate(read_lines(path, ("time", "step", "event")), 1):
        if not all(isinstance(row[key], int | float) and math.isfinite(row[key]) for key in ("time", "step")):
            raise damaged(path, number, "time and step are expected to be numbers")
        events.append(Event(float(row["time"]), int(row["step"]), str(row["event"])))
    return events
