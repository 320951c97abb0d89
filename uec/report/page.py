"""The page: one HTML file that contains its styles, scripts and data, and loads nothing."""

import base64
import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich.console import Console

from uec.errors import BadInput
from uec.report.comparison import differences, from_defaults
from uec.report.page_data import as_script, page_data
from uec.report.run_data import RunData, read_runs
from uec.report.summary_table import summary_table
from uec.system.files import atomic_write

HERE = Path(__file__).parent
STYLES = ("vendor/uPlot-1.6.32.min.css", "page/page.css")
SCRIPTS = ("vendor/uPlot-1.6.32.min.js", "page/state.js", "page/curves.js", "page/rollouts.js")
MARK = "<!DOCTYPE html>\n<!-- uec report -->"
"""The beginning of every page; a file without it was not written by `uec report`."""

MOST_EVENTS = 1000


def render(runs: Sequence[RunData], most_groups: int, reload_s: float | None = None) -> str:
    """Return the page of these runs. With `reload_s` it reloads itself after so many seconds. Raises BadInput for a damaged file."""
    styles = "\n".join((HERE / name).read_text(encoding="utf-8") for name in STYLES)
    scripts = [(HERE / name).read_text(encoding="utf-8").strip() for name in SCRIPTS]
    template = _environment().get_template("page.html.j2")
    events = [(run, event) for run in runs for event in run.events[-MOST_EVENTS:]]
    return template.render(
        mark=MARK,
        csp=_policy(styles, scripts),
        styles=styles,
        scripts=scripts,
        data=as_script(page_data(runs, most_groups)),
        runs=runs,
        summary=summary_table(runs),
        events=sorted(events, key=lambda one: one[1].time),
        omitted_events=sum(max(0, len(run.events) - MOST_EVENTS) for run in runs),
        differences=differences(runs) if len(runs) > 1 else [],
        from_defaults=from_defaults(runs),
        reload_s=reload_s,
        written=datetime.now(UTC),
    )


def write(place: Path, text: str) -> None:
    """Write the page atomically. Raises BadInput if it cannot be written."""
    try:
        atomic_write(place, text)
    except OSError as error:
        raise BadInput(f"{place} cannot be written: {error.strerror}; give another file: --to FILE") from error


def check_place(place: Path) -> None:
    """Raise BadInput if the file cannot be created, or would replace a file that is no report."""
    if place.is_dir():
        raise BadInput(f"--to {place}: is a folder; give a file, such as {place}/report.html")
    if not place.parent.is_dir():
        raise BadInput(f"--to {place}: the folder {place.parent} does not exist; make it, or give another file")
    if place.exists() and not place.is_file():
        raise BadInput(f"--to {place}: is a named pipe or a device; give a file")
    if place.exists():
        with place.open("rb") as file:
            if file.read(len(MARK)) != MARK.encode():
                raise BadInput(f"--to {place}: a file that is no report exists there; move it, or give another file")


def watch(folders: list[Path], place: Path, most_groups: int, every_s: float, console: Console) -> None:
    """Write the page every `every_s` seconds while a run is active, or until Ctrl-C; the last page does not reload itself."""
    with console.status(""):
        try:
            runs = read_runs(folders)
            while any(run.is_active for run in runs):
                write(place, render(runs, most_groups, every_s))
                steps = ", ".join(f"{run.label}: step {int(run.rows[-1]['step']) if run.rows else 0}" for run in runs)
                console.print(f"{time.strftime('%H:%M:%S')}  {steps}", markup=False, highlight=False)
                time.sleep(every_s)
                runs = read_runs(folders)
        except KeyboardInterrupt:
            runs = read_runs(folders)
        write(place, render(runs, most_groups))


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["moment"] = lambda seconds: datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return environment


def _policy(styles: str, scripts: Sequence[str]) -> str:
    """Return a content security policy that allows only these scripts and no loading, so that a model's output stays text."""
    allowed = " ".join(_digest(script) for script in scripts)
    return f"default-src 'none'; img-src data:; style-src {_digest(styles)}; script-src {allowed}; base-uri 'none'; form-action 'none'"


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
