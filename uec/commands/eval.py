"""`uec eval MODEL_OR_CHECKPOINT ... --data FILE_OR_NAME [section.field=value ...]`."""

import argparse
import re
from contextlib import ExitStack

from uec.errors import BadInput

NAME = "eval"
HELP = "evaluate models: pass@k, majority@k, entropy, side by side"
DESCRIPTION = """Sample n responses per prompt with all engines, grade them, and report pass@k, majority@k, entropy, length and truncation
with 95 % intervals. Further models are compared with the first one prompt by prompt. Predictions are kept, so that the same
command continues after an interruption."""
EXAMPLES = """examples:
  uec eval runs/NAME                                            # the newest checkpoint, on the held-out data of the run
  uec eval assets/countdown runs/NAME --n 16 --k 1,4,16         # compare it with the initial model
  uec eval Qwen/Qwen2.5-1.5B-Instruct --data gsm8k              # a benchmark of the hub: gsm8k, math500, aime24, aime25, geometry3k
  uec eval models/mine --data gsm8k=test.jsonl --by level       # the same layout for a file, results by column
  uec eval models/mine --data rows.jsonl data.prompt_key=question reward.fn=my_reward.py:score rollout.max_tokens=2048
"""

OVERRIDE = re.compile(r"-*[a-z_]+(\.[a-z_0-9]+)*=", re.ASCII)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec eval`."""
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL_OR_CHECKPOINT",
        help="a folder in Hugging Face format, a hub name, a run folder (its newest checkpoint) or a checkpoint; "
        "section.field=value among them overrides all other settings",
    )
    parser.add_argument("--data", metavar="FILE_OR_NAME", help="a .jsonl or .parquet file, a dataset name, a benchmark, or BENCHMARK=FILE")
    parser.add_argument("--layout", metavar="BENCHMARK", help="read --data in the layout of this benchmark")
    parser.add_argument("--config", metavar="CONFIG", help="a YAML file with data, reward, template and sampling; default: the run's")
    parser.add_argument("--n", type=int, metavar="N", help="responses per prompt")
    parser.add_argument("--k", type=_numbers, metavar="K,K,...", help="values of k for pass@k and majority@k, up to n")
    parser.add_argument("--temperature", type=float, metavar="T", help="sampling temperature")
    parser.add_argument("--by", metavar="COLUMN", help="report by the values of this column; default: by difficulty for the first model")
    parser.add_argument("--no-entropy", action="store_true", help="skip the entropy, which needs another load of the model")
    parser.add_argument("--to", metavar="DIR", help="folder for predictions and summary.json; default: evals/MODELS-on-DATA")
    parser.add_argument("--overwrite", action="store_true", help="replace existing predictions")


def run(arguments: argparse.Namespace) -> int:
    """Check everything, then sample, grade and report."""
    from uec.eval.settings import EvalArguments, resolve_candidates
    from uec.paths import check_path
    from uec.system.process_env import prepare_driver

    prepare_driver()
    models, overrides = _split(arguments.models)
    if not models:
        raise BadInput("no model to evaluate; give a run's folder, a checkpoint, a folder in Hugging Face format or a hub name")
    for model in models:
        check_path(model, "MODEL_OR_CHECKPOINT")
    check_path(arguments.to or ".", "--to")
    request = EvalArguments(
        models, overrides, arguments.data, arguments.layout, arguments.config, arguments.n, arguments.k, arguments.temperature
    )
    with ExitStack() as merges:
        candidates, notes = resolve_candidates(request, merges)
        from actors.programs.evaluate import evaluate

        return evaluate(candidates, arguments.to, arguments.by, not arguments.no_entropy, arguments.overwrite, notes)


def _numbers(text: str) -> list[int]:
    """Return the numbers of an option such as 1,4,16."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers, such as 1,4,16") from None


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Split positional arguments into models and `section.field=value` settings, each in order."""
    settings = [word for word in words if OVERRIDE.match(word)]
    return [word for word in words if word not in settings], settings
