"""Small run folders for the report's tests."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from uec.config.file import load_config
from uec.run_folder import save_config

HOSTILE = "</script><script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"


def rows_of(seed: int, steps: int = 6) -> list[dict[str, float]]:
    """Return rows of metrics.jsonl: training metrics that depend on `seed`, and evaluations at step 0 and the last step."""
    rows: list[dict[str, float]] = [{"step": 0, "eval/pass@1": 0.25, "eval/pass@1_low": 0.2, "eval/pass@1_high": 0.3}]
    for step in range(1, steps + 1):
        learned = {"reward/accuracy_mean": 0.1 * step + seed, "entropy/regular": 1 / step}
        rows.append({"step": step, "rollout/tokens": 1000.0, "time/step_s": 2.0} | learned)
    return [*rows[:-1], rows[-1] | {"eval/pass@1": 0.5 + seed / 100}]


def response(step: int, group: int, index: int, **other: Any) -> dict[str, Any]:
    """Return a wrong regular response with three tokens, the last of which is a character of two UTF-16 units; `other` overrides fields."""
    row = {
        "step": step, "prompt_index": group, "group": group, "index": index, "prompt": f"prompt {group}", "answer": "7",
        "response": "ab c\U0001f600",
        "kind": "regular", "temperature": 1.0, "version": step - 1, "reward": 0.0, "accuracy": 0.0, "parts": {"accuracy": 0.0},
        "advantage": -0.5, "kept": True, "difficult": False, "truncated": False, "error": None, "tokens": 3, "logprob_mean": -2.0,
        "logprobs": [-0.01, -1.0, -5.0], "token_ends": [2, 4, 5],
    }  # fmt: skip
    return row | other


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_report_run(folder: Path, *overrides: str, seed: int = 0, rollouts: bool = True) -> Path:
    """Make a run of configs/llm.yaml with six steps; step 1 has five prompts, the second one difficult and solved by exploration."""
    folder.mkdir(parents=True)
    project = Path(__file__).resolve().parents[2]
    cfg = load_config(project / "configs/llm.yaml", [f"run.name={folder.name}", f"run.seed={seed}", *overrides])
    save_config(cfg, folder / "config.yaml")
    write_rows(folder / "metrics.jsonl", rows_of(seed))
    write_rows(folder / "events.jsonl", [{"time": 1e9, "step": 3, "event": f"engine 0 died of {HOSTILE}"}])
    if rollouts:
        (folder / "images").mkdir()
        Image.new("RGB", (900, 300), "green").save(folder / "images/a.png")
        right = {"accuracy": 1.0, "reward": 1.0, "advantage": 1.5, "parts": {"accuracy": 1.0}}
        step1 = [response(1, 0, 0, **right), response(1, 0, 1, response=HOSTILE, token_ends=None, logprobs=[-1.0])]
        step1 += [response(1, 1, i, difficult=True) for i in (0, 1)]
        hot = {"prompt_index": 1, "prompt": "prompt 1", "difficult": True, "kind": "exploration", "temperature": 1.2}
        step1 += [response(1, 5, i, **hot) for i in (0, 1)]
        step1[-1] |= right
        step1 += [response(1, 2, 0, truncated=True, kept=False, advantage=None)]
        step1 += [response(1, 3, 0, images=["images/a.png", "images/gone.png"])]
        step1 += [response(1, 4, 0, error="the grader timed out")]
        write_rows(folder / "rollouts/step_000001.jsonl", step1)
        write_rows(folder / "rollouts/step_000002.jsonl", [response(2, 9, 0), response(2, 9, 1, **right)])
        drawn = {"step": 4, "admitted": 1, "prompt_index": 1, "group": 5, "index": 1, "advantage": 1.5}
        write_rows(folder / "rollouts/replayed_000004.jsonl", [drawn, drawn | {"step": 5}])
    return folder
