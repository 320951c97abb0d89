"""Turn the command line of `uec eval` into a validated config for each model.

Data, template, reward and sampling are the same for all models, so that their metrics can be compared. They come from --config, or else
from the config of the first run among the models, or else from uec/eval/defaults.yaml; a benchmark's layout, flags and overrides win.
Only the section `model` differs between models, so that a model with model.trust_remote_code does not give that right to the others.
"""

import difflib
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from uec.algorithm.functions import check_functions
from uec.config.file import load_config
from uec.config.schema import Config, LoraConfig
from uec.config.validate import validate
from uec.errors import BadInput
from uec.eval.benchmarks import LAYOUTS, NAMES, Layout
from uec.eval.target import CONFIG, Target, find_target, with_unique_labels
from uec.models.merge import merged
from uec.models.pretrained import context_length

DEFAULTS = Path(__file__).parent / "defaults.yaml"
COMPARED = ("prompt_key", "answer_key", "answer_regex", "image_key", "template", "system", "chat")


@dataclass(frozen=True)
class EvalArguments:
    """The arguments of `uec eval`."""

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
    """A model with the settings of its evaluation; `cfg.model.path` is its folder or hub name."""

    target: Target
    cfg: Config


@dataclass(frozen=True)
class _Source:
    """The source of the rows, and their layout."""

    place: str
    layout: Layout | None
    split: str | None = None  # of a benchmark on the hub

    def overrides(self, has_base: bool) -> list[str]:
        """Return the overrides. `has_base`: a config of the user or of a run gives template and reward."""
        lines = [f"data.eval={self.place}", "eval.prompts=null"]
        if self.split is not None:
            lines.append(f"data.eval_split={self.split}")
        if self.layout is not None:
            lines += self.layout.column_overrides() + ([] if has_base else self.layout.prompt_overrides())
        return lines


def resolve_candidates(arguments: EvalArguments, merges: ExitStack | None = None) -> tuple[list[Candidate], list[str]]:
    """Return the models with their settings, and notes for the user on these settings. Raises BadInput.

    `merges`: keeps the models that are made of adapters; None: no argument is an adapter.
    """
    targets = with_unique_labels([find_target(model) for model in arguments.models])
    if merges is not None:
        targets = [replace(target, path=merges.enter_context(merged(target.path))) for target in targets]
    first = next((target.run for target in targets if target.run is not None), None)
    base = Path(arguments.config) if arguments.config else first / CONFIG if first else DEFAULTS
    overrides = _overrides(arguments, base)
    candidates = [Candidate(target, _config(target, base, overrides, arguments)) for target in targets]
    said = [f"data, template, reward and sampling as in {base}"] if base != DEFAULTS else _fit_context(candidates, overrides)
    for target in targets:
        if target.run is not None and target.run / CONFIG != base:
            said += _differences(target, candidates[0].cfg)
    return candidates, said


def _fit_context(candidates: list[Candidate], overrides: list[str]) -> list[str]:
    """If the default lengths exceed the shortest context of the models, give prompts and responses half of it each; return a note."""
    cfg = candidates[0].cfg
    context = min(context_length(one.cfg.model) for one in candidates)
    given = any(_overridden(key, overrides) for key in ("data.max_prompt_tokens", "rollout.max_tokens"))
    if given or cfg.data.max_prompt_tokens + cfg.rollout.max_tokens <= context:
        return []
    half = context // 2
    for one in candidates:
        one.cfg.data.max_prompt_tokens, one.cfg.rollout.max_tokens = half, context - half
    return [f"data.max_prompt_tokens={half} and rollout.max_tokens={context - half}: half of the context of {context} tokens each"]


def _overrides(arguments: EvalArguments, base: Path) -> list[str]:
    for text in arguments.overrides:
        if text.partition("=")[0].strip() in ("model.path", "run.dir", "run.name", "run.resume", "run.overwrite"):
            raise BadInput(f"{text}: `uec eval` takes the model from MODEL and the folder from --to; leave it out")
    lines = []
    if arguments.data is not None:
        lines += _source(arguments.data, arguments.layout).overrides(has_base=base != DEFAULTS)
    elif arguments.layout is not None:
        raise BadInput(f"--layout {arguments.layout} says how the rows of --data are read; give --data FILE")
    for key, value in (("n", arguments.n), ("k", arguments.k), ("temperature", arguments.temperature)):
        if value is not None:
            lines.append(f"eval.{key}={value}")
    if base == DEFAULTS:
        lines.append("data.train=data.eval")  # not used, but required by the config
        if not _overridden("data.eval", [*lines, *arguments.overrides]):
            model = arguments.models[0]
            raise BadInput(f"no data: {model} is not a run of `uec train`; give --data FILE, a benchmark ({NAMES}), or --config CONFIG")
    return [*lines, *arguments.overrides]


def _source(data: str, layout: str | None) -> _Source:
    """Read `gsm8k`, `gsm8k=test.jsonl`, or a file or dataset name with or without --layout."""
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


def _config(target: Target, base: Path, overrides: list[str], arguments: EvalArguments) -> Config:
    model_path = f"model.path={target.path}"
    cfg = load_config(base, [model_path, *overrides])
    if cfg.data.eval is None:
        raise BadInput(f"{base} has no data.eval to evaluate on; give --data FILE or a benchmark ({NAMES})")
    model_config = target.run / CONFIG if target.run is not None else base if arguments.config else DEFAULTS
    if model_config != base:
        model_overrides = [text for text in arguments.overrides if text.startswith("model.")]
        cfg.model = load_config(model_config, [model_path, "data.train=unused", *model_overrides]).model
    if _overridden("reward.fn", overrides) and not _overridden("reward.weights", arguments.overrides):
        cfg.reward.weights = {"accuracy": 1.0}  # the base's weights belong to the parts of another grader
    if arguments.k is None and not _overridden("eval.k", arguments.overrides) and max(cfg.eval.k, default=0) > cfg.eval.n:
        cfg.eval.k = sorted({*(k for k in cfg.eval.k if k <= cfg.eval.n), cfg.eval.n})
    cfg.lora = LoraConfig()  # an adapter is merged into its model first
    validate(cfg)
    check_functions(cfg)
    return cfg


def _overridden(key: str, overrides: list[str]) -> bool:
    return any(text.strip().startswith((f"{key}=", f"{key}.")) for text in overrides)


def _differences(target: Target, used: Config) -> list[str]:
    """Return a note if the run was trained with other prompt settings than those of this evaluation."""
    assert target.run is not None
    run_config = load_config(target.run / CONFIG, [])
    trained = {f"data.{key}": value for key, value in asdict(run_config.data).items() if key in COMPARED}
    here = {f"data.{key}": value for key, value in asdict(used.data).items() if key in COMPARED}
    keys = [key for key in trained if trained[key] != here[key]]
    return [f"{target.label} was trained with other values of {', '.join(keys)} than this evaluation uses"] if keys else []
