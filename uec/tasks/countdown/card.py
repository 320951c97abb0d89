"""The model card of the Countdown start checkpoint."""

import platform
from dataclasses import dataclass

import torch
import transformers

from uec.tasks.countdown.measure import GROUP, Figures
from uec.tasks.countdown.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Making:
    """What the card says of how the checkpoint came about."""

    command: str
    seconds: float  # CPU time of the training
    parameters: int
    sha256: str  # of model.safetensors
    train_problems: int
    eval_problems: int


def write_card(recipe: Recipe, making: Making, figures: Figures) -> str:
    """Markdown, with the metadata block that the hub reads."""
    ks = sorted(figures.pass_at)
    lines = [f"| problems | {' | '.join(f'pass@{k}' for k in ks)} |", f"|---|{'---|' * len(ks)}"]
    for name, values in (("all", figures.pass_at), *figures.pass_at_by_kind.items()):
        lines.append(f"| {name} | {' | '.join(f'{values[k]:.3f}' for k in ks)} |")
    table = "\n".join(lines)
    mode = "\n".join(
        f"- At T = {t:g} it opens with `?` on {figures.mode[t]:.1%} of the prompts that need multiplication; "
        f"once `?` is there, {figures.mode_success[t]:.0%} of its responses are right."
        for t in sorted(figures.mode)
    )
    shares = ", ".join(f"{phase.rare_share:.1%}" for phase in recipe.phases)
    phases = ", ".join(f"{phase.share:.0%}" for phase in recipe.phases)
    peaks = ", ".join(f"{phase.lr:g}" for phase in recipe.phases)
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---
# Countdown start checkpoint

The policy that `configs/llm.yaml` starts from: a Qwen2 model of {making.parameters / 1e6:.2f} M parameters (4 layers,
width 128, 4 query and 2 key/value heads, feed-forward 384, tied embeddings, 111 tokens), trained from random weights on
made-up demonstrations. No other data, no other model.

**Task.** `3 8 7 : 45 =`: reach 45 from 3, 8 and 7, each used once, with + - *, all values in 0..99. A response is a
chain such as `8 * 7 = 56 , 56 - 3 = 53`. It is right if each step is, each number is used exactly once and the last
result is the target (`uec/tasks/countdown/reward.py`). Kinds: `pm3` and `pm4`, three or four numbers, solvable with plus and
minus; `mul3`, multiplication is needed (40 % of `data/`).

**The rare mode.** The model multiplies after the token `?` only. What follows `?` it was shown where the *prompt* ends
with `?`; to write `?` itself, in {shares} of the unhinted demonstrations, phase by phase. Those that need
multiplication are solved there, the others miss their target: so it does not learn which prompts need `?`, and to open
with it at random pays on none of the easy ones. The prompts of `data/` carry no hint.

## Figures

On {figures.problems} problems that are in neither file of `data/` and of which it was shown none, {figures.samples}
responses each, T = 1. The recipe was chosen by such figures, on these problems; `data/eval.jsonl` was looked at for no
choice.

{table}

- Entropy {figures.entropy:.3f} nats a token; {figures.difficult:.1%} of the prompts have no right response among {GROUP}.
{mode}

## Making

`{making.command}`

{making.seconds:.0f} CPU seconds of training on one thread, with torch {torch.__version__} and transformers
{transformers.__version__} on {platform.machine()}. {recipe.steps} steps of {recipe.batch} demonstrations, AdamW at
{recipe.lr:g} in phases of {phases} of the steps at {peaks} of it, each with {recipe.warmup_steps} steps of
warm-up and linear decay, seed {recipe.seed}; code in `uec/tasks/countdown/`.
The same command on the same machine and versions makes the same weights, byte for byte.

- `model.safetensors`: sha256 `{making.sha256}`
- `data/train.jsonl`: {making.train_problems} problems for RL; `data/eval.jsonl`: {making.eval_problems} held-out ones.
  No training problem and no demonstration equals a held-out one in its numbers (in any order) and target.

## Limits

It knows this task and nothing else: numbers 0..99, three or four of them, 111 words separated by spaces. Text with any
other word does not encode. `uec.models.source.load_tokenizer` decodes with spaces; transformers' AutoTokenizer gives the
same ids but decodes without them. Licence: Apache-2.0, like the project.
"""
