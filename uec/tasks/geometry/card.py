"""The model card of the initial model of the geometry task."""

import platform
from dataclasses import dataclass

import torch
import transformers

from uec.tasks.geometry.data import COLD_START, KINDS, LEVELS, RL, Mix
from uec.tasks.geometry.measure import GROUP, Metrics
from uec.tasks.geometry.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the model was made."""

    command: str
    seconds: float  # CPU time of the training
    parameters: int
    vision_parameters: int  # those of the vision tower, included in `parameters`
    tokens: int  # of the tokenizer
    sha256: str  # of model.safetensors
    train_problems: int
    eval_problems: int


def write_card(recipe: Recipe, provenance: Provenance, metrics: Metrics) -> str:
    """Return Markdown with the metadata block that the hub reads."""
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-text-to-text
---
# Initial model of the geometry task

The default vision run starts from this model: Qwen2.5-VL's architecture with {provenance.parameters / 1e6:.2f} M parameters,
{provenance.vision_parameters / 1e6:.2f} M of them vision (text: 4 layers, width 128, 4 query and 2 key/value heads, feed-forward 384, tied
embeddings; vision: 2 layers, width 64, patches of 14 pixels; byte-level BPE of {provenance.tokens} tokens), trained from random weights
on generated problems. No other data or model was used.

**Task.** The prompt is an image of one plane shape on a grid of cells, and a question. The response reads the sides off the
image, in cells, and computes the answer. For the image of an L-shape and the question `Find the area.` the response is
`w=6 h=8 w*h=48 cut w=2 h=5 w*h=10 diff=38 \\boxed{{38}}`. It is right if it is that derivation, quantity by quantity, and
nothing else (`uec/tasks/geometry/reward.py`): the answer alone is too often right by luck.

**Kinds.** Area and perimeter of a rectangle (`rect_area`, `rect_perim`), area of a right triangle (`tri_area`), its hypotenuse
squared (`hyp2`), perimeter of a polyomino (`poly_perim`), area of an L-shape (`lshape`) and of a rectangle with a hole
(`shaded`). Several kinds share a question, so the text reveals neither the kind nor the answer. Levels: sides of up to 3, 5,
or all 6 or 8 cells. Place and colour are random.

| mix | {" | ".join(KINDS)} | level {" | level ".join(map(str, LEVELS))} |
|---|{"---|" * (len(KINDS) + len(LEVELS))}
{_mix_row("cold start", COLD_START)}
{_mix_row("RL (`data/`)", RL)}

**Slips.** {recipe.share_of_slips:.0%} of the demonstrations misread one side by one cell and continue without another
mistake. Trained on perfect ones alone, the model soon becomes certain of its readings, right or wrong. On 256 of the problems
below (one seed each), pass@1 and pass@8 were .42 and .67 after 330 steps without slips, .59 and .78 after 450, and
.41 and .73 after 400 steps with slips: at the same pass@1, more is left to explore.

## Results

On {metrics.problems} problems of the RL mix whose images are in neither file of `data/` and in no demonstration, with
{metrics.samples} responses each, at T = 1. The recipe was chosen by these measurements, on these problems. Nothing was chosen on
`data/eval.parquet`.

{_table(metrics)}

- With the image of another problem that has the same question and size, {metrics.swapped:.1%} are right by derivation and
  {metrics.swapped_answer:.1%} by answer. So the model uses the image.
- The entropy is {metrics.entropy:.3f} nats per token; {metrics.difficult:.1%} of the prompts have no right response among {GROUP}.

## Training

`{provenance.command}`

It took {provenance.seconds:.0f} CPU seconds on one thread, with torch {torch.__version__} and transformers
{transformers.__version__} on {platform.machine()}: {recipe.steps} steps of {recipe.batch} new problems, with the loss on the
response's tokens. AdamW at {recipe.lr:g} has {recipe.warmup_steps} steps of warm-up and a cosine to {recipe.lowest_lr:g}
of that. The seed is {recipe.seed}. The code is in `uec/tasks/geometry/`.
The same command on the same machine with the same versions makes the same weights, byte for byte.

- `model.safetensors`: sha256 `{provenance.sha256}`
- `data/train.parquet`: {provenance.train_problems} problems for RL; `data/eval.parquet`: {provenance.eval_problems} held-out problems.
  No training problem and no demonstration has the image of a held-out problem. (Shapes of equal sides at another place or
  in another colour are other images: there are few pairs of sides.)

## Limits

The model knows only this task. Any text encodes, but text outside the task becomes bytes that the model never saw.
Images have 56 x 56 to 140 x 140 pixels; others are resized to that. Licence: Apache-2.0, like the project.
"""


def _mix_row(name: str, mix: Mix) -> str:
    kinds, levels = sum(mix.kinds.values()), sum(mix.levels.values())
    shares = [*(mix.kinds[kind] / kinds for kind in KINDS), *(mix.levels[level] / levels for level in LEVELS)]
    return f"| {name} | {' | '.join(f'{share:.0%}' for share in shares)} |"


def _table(metrics: Metrics) -> str:
    ks = sorted(metrics.pass_at)
    lines = [f"| problems | {' | '.join(f'pass@{k}' for k in ks)} | answer alone |", f"|---|{'---|' * len(ks)}---|"]
    rows = [("all", metrics.pass_at, metrics.answer)]
    rows += [(kind, values, metrics.answer_by_kind[kind]) for kind, values in metrics.pass_at_by_kind.items()]
    lines += [f"| {name} | {' | '.join(f'{values[k]:.3f}' for k in ks)} | {answer:.3f} |" for name, values, answer in rows]
    return "\n".join(lines)
