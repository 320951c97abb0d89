"""`python -m uec.tasks.geometry.make`: make the initial model of the vision run, its data and its model card."""

import sys
import time
from pathlib import Path

from rich.console import Console

from uec.tasks.geometry.card import Provenance, write_card
from uec.tasks.geometry.data import RL, problems, write_parquet
from uec.tasks.geometry.demonstrations import demonstrations
from uec.tasks.geometry.measure import Metrics, measure
from uec.tasks.geometry.model import build_processor
from uec.tasks.geometry.recipe import Recipe, train
from uec.tasks.loop import be_deterministic, command_line, progress, sha256

OUT = Path("assets/geometry")
HELD_OUT_SEED, HELD_OUT_PROBLEMS = 20261124, 512
DEV_SEED, DEV_PROBLEMS = 20261125, 512
"""Other unseen problems, for measurements and choices, so that the held-out ones stay unused."""
TRAIN_SEED, TRAIN_PROBLEMS = 20261126, 2048


def make(out: Path, recipe: Recipe, console: Console) -> Metrics:
    """Train and measure the model, and write the whole folder; existing files are replaced. Return the metrics.

    It uses one thread, so that the result is the same each time.
    """
    be_deterministic()
    held_out = problems(HELD_OUT_SEED, HELD_OUT_PROBLEMS, RL, avoid=set())
    held_out_keys = {problem.key for problem in held_out}
    dev = problems(DEV_SEED, DEV_PROBLEMS, RL, avoid=held_out_keys)
    unseen = held_out_keys | {problem.key for problem in dev}
    training = problems(TRAIN_SEED, TRAIN_PROBLEMS, RL, avoid=unseen)

    processor = build_processor()
    begin = time.process_time()
    with progress(console, recipe.steps) as on_step:
        model = train(recipe, demonstrations(recipe.seed, recipe.share_of_slips, unseen), processor, on_step)
    seconds = time.process_time() - begin
    console.print(f"measuring on {len(dev)} other unseen problems")
    metrics = measure(model, processor, dev)

    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    write_parquet(out / "data" / "train.parquet", training)
    write_parquet(out / "data" / "eval.parquet", held_out)
    provenance = Provenance(
        command=f"python -m uec.tasks.geometry.make --out {out} --steps {recipe.steps} --seed {recipe.seed}",
        seconds=seconds,
        parameters=model.num_parameters(),
        vision_parameters=model.model.visual.num_parameters(),
        tokens=len(processor.tokenizer),
        sha256=sha256(out / "model.safetensors"),
        train_problems=len(training),
        eval_problems=len(held_out),
    )
    (out / "README.md").write_text(write_card(recipe, provenance, metrics), encoding="utf-8")
    console.print(f"{provenance.sha256}  {out / 'model.safetensors'}  ({seconds:.0f} CPU s of training)")
    return metrics


def show(metrics: Metrics, console: Console) -> None:
    """Print the metrics."""
    rows = [("all", metrics.pass_at, metrics.answer)]
    rows += [(kind, values, metrics.answer_by_kind[kind]) for kind, values in metrics.pass_at_by_kind.items()]
    for name, values, answer in rows:
        console.print(f"{name:10} " + "  ".join(f"pass@{k} {value:.3f}" for k, value in values.items()) + f"  answer alone {answer:.3f}")
    console.print(f"swapped images {metrics.swapped:.3f}, answer alone {metrics.swapped_answer:.3f}")
    console.print(f"entropy {metrics.entropy:.3f}  difficult prompts {metrics.difficult:.3f}")


def main(argv: list[str] | None = None) -> int:
    """Run the command. Return its exit status."""
    return command_line("geometry", OUT, Recipe(), lambda out, recipe, console: show(make(out, recipe, console), console), argv)


if __name__ == "__main__":
    sys.exit(main())
