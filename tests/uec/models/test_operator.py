"""DeepSpeed's operator loads despite a lock that a killed process left behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LOAD = "from uec.models.operator import load_operator; load_operator(); print('loaded')"


@pytest.mark.e2e
def test_a_lock_that_a_killed_process_left_does_not_stop_the_next_one(tmp_path: Path) -> None:
    compiled = Path(os.environ["TORCH_EXTENSIONS_DIR"]) / "deepspeed_shm_comm"
    shutil.copytree(compiled, tmp_path / compiled.name)
    left = tmp_path / compiled.name / "lock"
    left.touch()
    environment = {**os.environ, "TORCH_EXTENSIONS_DIR": str(tmp_path), "DS_ACCELERATOR": "cpu"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run([sys.executable, "-c", LOAD], env=environment, capture_output=True, text=True, timeout=240)
    assert done.stdout.splitlines()[-1:] == ["loaded"], done.stderr[-2000:]
    assert not left.exists()
