"""The model card of the initial model of Countdown."""

import platform
from dataclasses import dataclass

import torch
import transformers

from uec.tasks.countdown.measure import GROUP, Metrics
from uec.tasks.countdown.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the model was made."""

    command: str
    seconds: float  # CPU time of the training
    parameters: int
    sha256: str  # of model.safetensors
    train_problems: int
    eval_problems: int


def write_card(recipe: Recipe, provenance: Provenance, metrics: Metrics) -> str:
    """Return Markdown with the metadata block that the hub reads."""
    ks = sorted(metrics.pass_at)
    lines = [f"| problems | {' | '.join(f'pass@{k}' for k in ks)} |", f"|---|{'---|' * len(ks)}"]
    for name, values in (("all", metrics.pass_at), *metrics.pass_at_by_kind.items()):
        lines.append(f"| {name} | {' | '.join(f'{values[k]:.3f}' for k in ks)} |")
    table = "\n".join(lines)
    mode = "\n".join(
        f"- At T = {t:g}, {metrics.mode[t]:.1%} of the responses to prompts that need multiplication begin with `?`; behind a given `?`,\n"
        f"  {metrics.mode_success[t]:.0%} are right."
        for t in sorted(metrics.mode)
    )
    shares = ", ".join(f"{phase.rare_share:.1%}" for phase in recipe.phases)
    phases = ", ".join(f"{phase.share:.0%}" for phase in recipe.phases)
    peaks = ", ".join(f"{phase.lr:g}" for phase in recipe.phases)
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# Initial model of Countdown

`configs/llm.yaml` starts from this model: a Qwen2 model of {provenance.parameters / 1e6:.2f} M parameters (4 layers,
width 128, 4 query and 2 key/value heads, feed-forward 384, tied embeddings, 111 tokens), trained from random weights on
generated demonstrations. No other data or model was used.

**Task.** `3 8 7 : 45 =`: reach 45 from 3, 8 and 7, each used once, with + - *, all values in 0..99. A response is a
chain such as `8 * 7 = 56 , 56 - 3 = 53`. It is right if each step is right, each number is used exactly once and the last
result is the target (`uec/tasks/countdown/reward.py`). Kinds: `pm3` and `pm4` have three or four numbers and can be solved
with plus and minus; `mul3` needs multiplication (40 % of `data/`).

**The rare mode.** The model multiplies only after the token `?`. Demonstrations whose *prompt* ends with `?` taught it how
to continue after `?`. It saw responses that begin with `?` in {shares} of the demonstrations without this hint, phase by
phase. If the problem needs multiplication, these responses solve it; the others miss their target. So the model does not
learn which prompts need `?`, and a `?` at random gains nothing on the easy ones. The prompts of `data/` have no hint.

## Results

On {metrics.problems} problems that are in neither file of `data/` and in no demonstration, with {metrics.samples}
responses each, at T = 1. The recipe was chosen by these measurements, on these problems. Nothing was chosen on
`data/eval.jsonl`.

{table}

- The entropy is {metrics.entropy:.3f} nats per token; {metrics.difficult:.1%} of the prompts have no right response among {GROUP}.
{mode}

## Training

`{provenance.command}`

It took {provenance.seconds:.0f} CPU seconds on one thread, with torch {torch.__version__} and transformers
{transformers.__version__} on {platform.machine()}: {recipe.steps} steps of {recipe.batch} demonstrations with AdamW. The
peak learning rate is {recipe.lr:g}; phases of {phases} of the steps use {peaks} times that, each with {recipe.warmup_steps}
steps of warm-up and a linear decay. The seed is {recipe.seed}. The code is in `uec/tasks/countdown/`.
The same command on the same machine with the same versions makes the same weights, byte for byte.

- `model.safetensors`: sha256 `{provenance.sha256}`
- `data/train.jsonl`: {provenance.train_problems} problems for RL; `data/eval.jsonl`: {provenance.eval_problems} held-out problems.
  No training problem and no demonstration has the numbers (in any order) and the target of a held-out problem.

## Limits

The model knows only this task: numbers 0..99, three or four of them, 111 words separated by spaces. A text with any
other word does not encode. `uec.models.pretrained.load_tokenizer` decodes with spaces; transformers' AutoTokenizer gives the
same ids but decodes without spaces. Licence: Apache-2.0, like the project.
"""
