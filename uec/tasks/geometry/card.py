"""The model card of the geometry start checkpoint."""

import platform
from dataclasses import dataclass

import torch
import transformers

from uec.tasks.geometry.data import COLD_START, KINDS, LEVELS, RL, Mix
from uec.tasks.geometry.measure import GROUP, Figures
from uec.tasks.geometry.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Making:
    """What the card says of how the checkpoint came about."""

    command: str
    seconds: float  # CPU time of the training
    parameters: int
    vision_parameters: int  # among them
    tokens: int  # of the tokenizer
    sha256: str  # of model.safetensors
    train_problems: int
    eval_problems: int


def write_card(recipe: Recipe, making: Making, figures: Figures) -> str:
    """Markdown, with the metadata block that the hub reads."""
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# Geometry start checkpoint

The policy that the default vision run starts from: a model of Qwen2.5-VL's architecture with {making.parameters / 1e6:.2f} M parameters,
{making.vision_parameters / 1e6:.2f} M of them vision (text: 4 layers, width 128, 4 query and 2 key/value heads, feed-forward 384, tied
embeddings; vision: 2 layers, width 64, patches of 14 pixels; byte-level BPE of {making.tokens} tokens), trained from random weights on
made-up problems. No other data, no other model.

**Task.** A picture of one plane figure on a grid of cells, and a question. The response reads the sides off, in cells, and
works the answer out: under a picture of an L-shape stands `Find the area.`, and the response is
`w=6 h=8 w*h=48 cut w=2 h=5 w*h=10 diff=38 \\boxed{{38}}`. It is right if it is that derivation, quantity by quantity, and no
more (`uec/tasks/geometry/reward.py`): the answer alone is too often right by luck.

**Kinds.** Area and perimeter of a rectangle (`rect_area`, `rect_perim`), area of a right triangle (`tri_area`), its hypotenuse
squared (`hyp2`), perimeter of a polyomino (`poly_perim`), area of an L-shape (`lshape`) and of a rectangle with a hole
(`shaded`). Several share a question, so the text does not tell the kind, let alone the answer. Levels: sides of up to 3, 5,
or all 6 or 8 cells. Place and colour are random.

| mix | {" | ".join(KINDS)} | level {" | level ".join(map(str, LEVELS))} |
|---|{"---|" * (len(KINDS) + len(LEVELS))}
{_mix_row("cold start", COLD_START)}
{_mix_row("RL (`data/`)", RL)}

**Slips.** {recipe.share_of_slips:.0%} of the demonstrations misread one side by one cell and go on from there without another
mistake. Shown perfect ones only, the model is soon sure of its readings, right or wrong: on 256 of the
problems below (one seed each), pass@1 and pass@8 were .42 and .67 after 330 steps without slips, .59 and .78 after 450, and
.41 and .73 after 400 steps with them: at the same pass@1 there is more left to find.

## Figures

On {figures.problems} problems of the RL mix whose pictures are in neither file of `data/` and were not shown in training,
{figures.samples} responses each, T = 1. The recipe was chosen by such figures, on these problems; `data/eval.parquet` was
looked at for no choice.

{_table(figures)}

- Shown the picture of another problem with the same question and size instead: {figures.swapped:.1%} right by derivation,
  {figures.swapped_answer:.1%} by answer. So it looks.
- Entropy {figures.entropy:.3f} nats a token; {figures.difficult:.1%} of the prompts have no right response among {GROUP}.

## Making

`{making.command}`

{making.seconds:.0f} CPU seconds of training on one thread, with torch {torch.__version__} and transformers
{transformers.__version__} on {platform.machine()}. {recipe.steps} steps of {recipe.batch} fresh problems, loss on the
response's tokens, AdamW at {recipe.lr:g} with {recipe.warmup_steps} steps of warm-up and a cosine to {recipe.lowest_lr:g}
of it, seed {recipe.seed}; code in `uec/tasks/geometry/`.
The same command on the same machine and versions makes the same weights, byte for byte.

- `model.safetensors`: sha256 `{making.sha256}`
- `data/train.parquet`: {making.train_problems} problems for RL; `data/eval.parquet`: {making.eval_problems} held-out ones.
  No training problem and no demonstration has the picture of a held-out one. (Figures of equal sides at another place or in
  another colour are other pictures: there are few pairs of sides.)

## Limits

It knows this task and nothing else. Any text encodes, but what is not of the task is spelt in bytes that it never saw.
Pictures of 56 x 56 to 140 x 140 pixels; others are resized to that. Licence: Apache-2.0, like the project.
"""


def _mix_row(name: str, mix: Mix) -> str:
    kinds, levels = sum(mix.kinds.values()), sum(mix.levels.values())
    shares = [*(mix.kinds[kind] / kinds for kind in KINDS), *(mix.levels[level] / levels for level in LEVELS)]
    return f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def _table(figures: Figures) -> str:
    ks = sorted(figures.pass_at)
    lines = [f"| problems | {' | '.join(f'pass@{k}' for k in ks)} | answer alone |", f"|---|{'---|' * len(ks)}---|"]
    rows = [("all", figures.pass_at, figures.answer)]
    rows += [(kind, values, figures.answer_by_kind[kind]) for kind, values in figures.pass_at_by_kind.items()]
    lines += [f"| {name} | {' | '.join(f'{values[k]:.3f}' for k in ks)} | {answer:.3f} |" for name, values, answer in rows]
    return "\n".join(lines)
