"""The campaign of docs/chaos.md in its shortest form: a real run is disturbed, and its books are right afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.e2e
@pytest.mark.long
def test_a_short_campaign_keeps_every_promise(tmp_path):
    project, report = Path(__file__).resolve().parents[2], tmp_path / "chaos.json"
    command = [sys.executable, "-m", "bench.chaos", "--seed", "5", "--minutes", "4", "--json", str(report)]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["ok"] and found["seed"] == 5 and found["books"] == []
    assert len(found["outcomes"]) >= 3 and all(outcome["kept"] for outcome in found["outcomes"])
