"""The books of a run: what its files say must agree, whatever happened to the run.

Each check returns what is wrong as sentences; an empty list means that the books are right. Each reads only the run folder.
"""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uec.algorithm.replay import admits
from uec.config.file import load_config
from uec.config.schema import Config
from uec.data.prompt_order import PromptOrder
from uec.run_folder import RunFolder, step_of
from uec.system.rollout_file import load_rollouts
from uec.tracking.metrics_file import read_metrics
from uec.types import Kind, TrainingSample

Identity = tuple[int, int, int, int]
"""A response: the step that trained it, its prompt, group and index in the group."""

NOISE = 0.05
"""Difference of pass@1 that two seeds of the same run may have beside the error of their evaluations."""


def breaches(run: Path) -> list[str]:
    """Return everything that is wrong with the books of a run that has a checkpoint of its last step."""
    cfg = load_config(run / "config.yaml", [])
    checkpoint = RunFolder(run).latest_checkpoint()
    if checkpoint is None:
        return [f"{run} has no checkpoint"]
    metrics = read_metrics(run / "metrics.jsonl")
    last = step_of(checkpoint)
    rollouts = {step: _lines(run / f"rollouts/step_{step:06d}.jsonl") for step in range(1, last + 1)}
    order = json.loads((checkpoint / "driver.json").read_text())["driver"]["order"]
    return [
        *steps(metrics, last),
        *prompts(rollouts, cfg, order),
        *versions(rollouts, metrics, cfg),
        *replay(rollouts, metrics, cfg, run, checkpoint),
        *leftovers(run, last),
    ]


def steps(metrics: list[dict[str, float]], last: int) -> Iterator[str]:
    """Yield the steps that metrics.jsonl has not exactly once, in their order."""
    found = [int(row["step"]) for row in metrics]
    if found != list(range(last + 1)):
        counts = Counter(found)
        wrong = [step for step in range(max([last, *found]) + 1) if counts[step] != (step <= last)]
        yield f"metrics.jsonl does not have each of the steps 0 to {last} once, in order; wrong are {wrong[:10]}"


def prompts(rollouts: dict[int, list[dict[str, Any]] | None], cfg: Config, state: dict[str, Any]) -> Iterator[str]:
    """Yield the steps that did not train on the prompts that the order gives, each once with all its responses.

    `state`: of the prompt order, in a checkpoint. Only for runs without dynamic sampling, where a step's prompts are known before.
    """
    order = PromptOrder(state["prompts"], state["seed"], state["shuffle"])
    for step, lines in rollouts.items():
        due = Counter(order.take(cfg.train.prompts_per_step))
        if lines is None:
            yield f"step {step} has no file of rollouts"
            continue
        groups: dict[tuple[int, int], list[int]] = {}
        for line in lines:
            if line["kind"] == Kind.REGULAR:
                groups.setdefault((line["prompt_index"], line["group"]), []).append(line["index"])
        found = Counter(prompt for prompt, _ in groups)
        if found != due:
            yield f"step {step}: prompts {dict(found - due)} too often, {dict(due - found)} too rarely"
        for (prompt, group), indices in groups.items():
            if sorted(indices) != list(range(cfg.rollout.n)):
                yield f"step {step}: group {group} of prompt {prompt} has the responses {sorted(indices)}, not 0 to {cfg.rollout.n - 1}"
        doubled = [one for one, count in Counter((line["group"], line["index"]) for line in lines).items() if count > 1]
        if doubled:
            yield f"step {step}: group and index {doubled[0]} occur twice"


def versions(rollouts: dict[int, list[dict[str, Any]] | None], metrics: list[dict[str, float]], cfg: Config) -> Iterator[str]:
    """Yield the steps with a response of weights that are older than `train.max_staleness` allows, or newer than the policy."""
    version = {int(row["step"]): row["weights/version"] for row in metrics if "weights/version" in row}
    for step, lines in rollouts.items():
        policy = 0.0 if step == 1 else version.get(step - 1)  # a run begins with version 0
        if policy is None or not lines:
            continue
        wrong = sorted({line["version"] for line in lines if not policy - cfg.train.max_staleness <= line["version"] <= policy})
        if wrong:
            yield f"step {step}: responses of weight versions {wrong}, policy {policy:g}, train.max_staleness is {cfg.train.max_staleness}"


def replay(
    rollouts: dict[int, list[dict[str, Any]] | None], metrics: list[dict[str, float]], cfg: Config, run: Path, checkpoint: Path
) -> Iterator[str]:
    """Yield what is wrong with the replay store: entries that are lost, doubled or foreign, and draws of no entry."""
    said = {int(row["step"]): row for row in metrics}
    admitted: dict[int, set[Identity]] = {}
    size = 0
    for step, lines in rollouts.items():
        admitted[step] = {_identity(step, line) for line in lines or [] if _admits(line, cfg)}
        size = min(cfg.replay_capacity(), size + len(admitted[step]))
        for key, found in (("replay/admitted", len(admitted[step])), ("replay/size", size)):
            value = said.get(step, {}).get(key)
            if value is not None and value != found:
                yield f"step {step}: {key} is {value:g}, and by the rollouts {found}"
        drawn = [(one["admitted"], one["prompt_index"], one["group"], one["index"]) for one in _lines(_replayed(run, step)) or []]
        if len(set(drawn)) != len(drawn):
            yield f"step {step}: the replay update drew an entry twice"
        if unknown := sorted(one for one in set(drawn) if one not in admitted.get(one[0], ())):
            yield f"step {step}: the replay update drew {unknown[0]}, which was never admitted"
    trajectories, notes = load_rollouts(checkpoint / "store/replay.safetensors")
    held = Counter((note["step"], one.prompt, one.group, one.index) for one, note in zip(trajectories, notes, strict=True))
    yield from _store(held, admitted, size)


def _store(held: Counter[Identity], admitted: dict[int, set[Identity]], size: int) -> Iterator[str]:
    """Compare the store's entries with the newest `size` admitted ones; of a step that has lost its oldest ones, only their number."""
    for one, count in sorted(held.items()):
        if count > 1:
            yield f"replay store: {one} (step, prompt, group, index) is there {count} times"
        if one not in admitted.get(one[0], ()):
            yield f"replay store: {one} (step, prompt, group, index) was never admitted"
    for step in sorted(admitted, reverse=True):
        there = {one for one in held if one[0] == step}
        due = min(size, len(admitted[step]))
        size -= due
        if len(there) != due:
            lost = sorted(admitted[step] - there)[:1]
            yield f"replay store: {len(there)} entries of step {step}, and should be {due}" + (f"; lost is {lost[0]}" if lost else "")


def leftovers(run: Path, last: int) -> Iterator[str]:
    """Yield files of the run folder that no step or checkpoint accounts for."""
    for path in sorted(run.rglob("*")):
        name = path.name
        unfinished = name.startswith(".") and name != ".lock"
        number = name.partition(".")[0].rpartition("_")[2]
        late = path.parent.name == "rollouts" and number.isdigit() and int(number) > last
        if unfinished or late:
            yield f"{path.relative_to(run)} is left over"


def evaluations(disturbed: Path, undisturbed: Path) -> Iterator[str]:
    """Yield if the last pass@1 of two runs differ by more than their 95 % intervals and NOISE explain."""
    ends = [next(row for row in reversed(read_metrics(run / "metrics.jsonl")) if "eval/pass@1" in row) for run in (disturbed, undisturbed)]
    widths = [row["eval/pass@1_high"] - row["eval/pass@1_low"] for row in ends]
    difference, allowed = ends[0]["eval/pass@1"] - ends[1]["eval/pass@1"], sum(widths) / 2 + NOISE
    if abs(difference) > allowed:
        yield f"pass@1 of the final policy is {difference:+.3f} to that of the undisturbed run; noise explains {allowed:.3f}"


def _admits(line: dict[str, Any], cfg: Config) -> bool:
    if not line["kept"]:
        return False
    sample = TrainingSample(
        prompt=line["prompt_index"], slot=0, prompt_tokens=0, response_tokens=line["tokens"], group=line["group"], index=line["index"],
        kind=Kind(line["kind"]), advantage=line["advantage"], accuracy=line["accuracy"],
    )  # fmt: skip
    return admits(sample, cfg)


def _identity(step: int, line: dict[str, Any]) -> Identity:
    return step, line["prompt_index"], line["group"], line["index"]


def _replayed(run: Path, step: int) -> Path:
    return run / f"rollouts/replayed_{step:06d}.jsonl"


def _lines(path: Path) -> list[dict[str, Any]] | None:
    """Return the objects of a file of lines; None if it is missing."""
    if not path.exists():
        return None
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
