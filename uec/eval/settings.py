"""From the command line of `uec eval` to a checked config for each model.

Data, template, reward and sampling are the same for all models, or their figures could not be compared: they come from --config, or else
from the config of the first run among the models, or else from uec/eval/defaults.yaml; a benchmark's layout, flags and overrides win.
Only the section `model` is each model's own, so that one that may run code (model.trust_remote_code) gives no other that right.
"""

import difflib
from dataclasses import asdict, dataclass
from pathlib import Path

from uec.algorithm.functions import check_functions
from uec.config.file import load_config
from uec.config.schema import Config
from uec.config.validate import validate
from uec.errors import BadInput
from uec.eval.benchmarks import LAYOUTS, NAMES, Layout
from uec.eval.target import CONFIG, Target, find_target, name_apart
from uec.models.source import context_length

DEFAULTS = Path(__file__).parent / "defaults.yaml"
COMPARED = ("prompt_key", "answer_key", "answer_regex", "image_key", "template", "system", "chat")


@dataclass(frozen=True)
class Asked:
    """What stands on the command line."""

    models: list[str]
    overrides: list[str]
    data: str | None = None
    layout: str | None = None
    config: str | None = None
    n: int | None = None
    k: list[int] | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A model with the settings that it is evaluated with; `cfg.model.path` is where it is."""

    target: Target
    cfg: Config


@dataclass(frozen=True)
class _Source:
    """Where the rows are and how they are read."""

    place: str
    layout: Layout | None
    split: str | None = None  # of a benchmark on the hub

    def overrides(self, of_us: bool) -> list[str]:
        """`of_us`: the base is a config of the user's or a run's, which knows how its model was asked and graded."""
        lines = [f"data.eval={self.place}", "eval.prompts=null"]
        if self.split is not None:
            lines.append(f"data.eval_split={self.split}")
        if self.layout is not None:
            lines += self.layout.columns() + ([] if of_us else self.layout.asking())
        return lines


def settle(asked: Asked) -> tuple[list[Candidate], list[str]]:
    """The models with their settings, and what is to be said about these. Raises BadInput."""
    targets = name_apart([find_target(model) for model in asked.models])
    first = next((target.run for target in targets if target.run is not None), None)
    base = Path(asked.config) if asked.config else first / CONFIG if first else DEFAULTS
    overrides = _overrides(asked, base)
    candidates = [Candidate(target, _config(target, base, overrides, asked)) for target in targets]
    said = [f"data, template, reward and sampling as in {base}"] if base != DEFAULTS else _fit(candidates, overrides)
    for target in targets:
        if target.run is not None and target.run / CONFIG != base:
            said += _differences(target, candidates[0].cfg)
    return candidates, said


def _fit(candidates: list[Candidate], overrides: list[str]) -> list[str]:
    """Where the defaults are too long for the shortest of the models' contexts, prompts and responses get half of it each; says so."""
    cfg = candidates[0].cfg
    context = min(context_length(one.cfg.model) for one in candidates)
    given = any(_overridden(key, overrides) for key in ("data.max_prompt_tokens", "rollout.max_tokens"))
    if given or cfg.data.max_prompt_tokens + cfg.rollout.max_tokens <= context:
        return []
    half = context // 2
    for one in candidates:
        one.cfg.data.max_prompt_tokens, one.cfg.rollout.max_tokens = half, context - half
    return [f"data.max_prompt_tokens={half} and rollout.max_tokens={context - half}: half of the context of {context} tokens each"]


def _overrides(asked: Asked, base: Path) -> list[str]:
    for text in asked.overrides:
        if text.partition("=")[0].strip() in ("model.path", "run.dir", "run.name", "run.resume", "run.overwrite"):
            raise BadInput(f"{text}: `uec eval` takes the model from MODEL and the folder from --to; leave it out")
    lines = []
    if asked.data is not None:
        lines += _source(asked.data, asked.layout).overrides(of_us=base != DEFAULTS)
    elif asked.layout is not None:
        raise BadInput(f"--layout {asked.layout} says how the rows of --data are read; give --data FILE")
    for key, value in (("n", asked.n), ("k", asked.k), ("temperature", asked.temperature)):
        if value is not None:
            lines.append(f"eval.{key}={value}")
    if base == DEFAULTS:
        lines.append("data.train=data.eval")  # no training here, but a config has to have some
        if not _overridden("data.eval", [*lines, *asked.overrides]):
            raise BadInput(f"no data: {asked.models[0]} is no run of ours; give --data FILE, a benchmark ({NAMES}), or --config CONFIG")
    return [*lines, *asked.overrides]


def _source(data: str, layout: str | None) -> _Source:
    """`gsm8k`, `gsm8k=test.jsonl`, or a file or dataset name with or without --layout."""
    name, equals, file = data.partition("=")
    if equals and name not in LAYOUTS and not Path(data).exists():
        raise BadInput(f"--data {data}: {name} is no benchmark; there is {NAMES}")
    if name not in LAYOUTS:
        return _Source(data, None if layout is None else _layout(layout))
    if layout is not None and layout != name:
        raise BadInput(f"--data {data} has the layout {name} already, and --layout {layout} is another; leave one out")
    if equals and not file:
        raise BadInput(f"--data {data}: no file behind the `=`; give --data {name}=path/to/file.jsonl, or --data {name} for the hub's")
    known = LAYOUTS[name]
    return _Source(file, known) if file else _Source(known.hub, known, known.split)


def _layout(name: str) -> Layout:
    if name not in LAYOUTS:
        near = difflib.get_close_matches(name, LAYOUTS, n=1)
        raise BadInput(f"--layout {name} is unknown; there is {NAMES}" + (f"; did you mean {near[0]}?" if near else ""))
    return LAYOUTS[name]


def _config(target: Target, base: Path, overrides: list[str], asked: Asked) -> Config:
    here = f"model.path={target.path}"
    cfg = load_config(base, [here, *overrides])
    if cfg.data.eval is None:
        raise BadInput(f"{base} has no data.eval to evaluate on; give --data FILE or a benchmark ({NAMES})")
    own = target.run / CONFIG if target.run is not None else base if asked.config else DEFAULTS
    if own != base:
        of_the_model = [text for text in asked.overrides if text.startswith("model.")]
        cfg.model = load_config(own, [here, "data.train=unused", *of_the_model]).model
    if _overridden("reward.fn", overrides) and not _overridden("reward.weights", asked.overrides):
        cfg.reward.weights = {"accuracy": 1.0}  # those of the base are of another grader's parts
    if asked.k is None and not _overridden("eval.k", asked.overrides) and max(cfg.eval.k, default=0) > cfg.eval.n:
        cfg.eval.k = sorted({*(k for k in cfg.eval.k if k <= cfg.eval.n), cfg.eval.n})
    validate(cfg)
    check_functions(cfg)
    return cfg


def _overridden(key: str, overrides: list[str]) -> bool:
    return any(text.strip().startswith((f"{key}=", f"{key}.")) for text in overrides)


def _differences(target: Target, used: Config) -> list[str]:
    """A line where a run was trained to answer otherwise than it is asked here."""
    assert target.run is not None
    own = load_config(target.run / CONFIG, [])
    trained = {f"data.{key}": value for key, value in asdict(own.data).items() if key in COMPARED}
    asked = {f"data.{key}": value for key, value in asdict(used.data).items() if key in COMPARED}
    keys = [key for key in trained if trained[key] != asked[key]]
    return [f"{target.label} was trained with other settings of {', '.join(keys)} than it is asked with here"] if keys else []
