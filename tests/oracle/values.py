"""The stored values: written by the generators, read by the tests."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.oracle.inputs import digest

FOLDER = Path(__file__).parent
Values = dict[str, dict[str, Any]]
"""By key `name/case`: the `case` of inputs.py, the package's `function`, its `settings`, and its `outputs`."""


def entry(case: str, function: str, settings: dict[str, Any], **outputs: Any) -> dict[str, Any]:
    """One value; tensors among the outputs become lists."""
    plain = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in outputs.items()}
    return {"case": case, "function": function, "settings": settings, "outputs": plain}


def write(package: str, values: Values) -> None:
    """Write `package`.json: a line a value, floats in full."""
    head = {"inputs_sha256": digest(), "package": package, "version": version(package), "torch": version("torch").split("+")[0]}
    lines = [f"{json.dumps(name)}: {json.dumps(text)}" for name, text in sorted(head.items())]
    rows = [f"{json.dumps(key)}: {json.dumps(values[key], sort_keys=True, allow_nan=False)}" for key in sorted(values)]
    lines.append('"values": {\n' + ",\n".join(rows) + "\n}")
    path = FOLDER / f"{package}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{path.name}: {len(values)} values, {path.stat().st_size // 1024} KiB")


def load(package: str) -> Values:
    """The values of `verl` or `trl`. Raises ValueError if they were computed from other inputs than inputs.py now makes."""
    stored = json.loads((FOLDER / f"{package}.json").read_text())
    if stored["inputs_sha256"] != digest():
        raise ValueError(f"{package}.json was computed from other inputs than inputs.py makes: run tests/oracle/make.sh")
    return stored["values"]
