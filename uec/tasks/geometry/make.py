"""`python -m uec.tasks.geometry.make`: make the start checkpoint of the vision run with its data and its model card."""

import sys
import time
from pathlib import Path

from rich.console import Console

from uec.tasks.geometry.card import Making, write_card
from uec.tasks.geometry.data import RL, problems, write_parquet
from uec.tasks.geometry.demonstrations import demonstrations
from uec.tasks.geometry.measure import Figures, measure
from uec.tasks.geometry.model import build_processor
from uec.tasks.geometry.recipe import Recipe, train
from uec.tasks.loop import be_deterministic, command_line, progress, sha256

OUT = Path("assets/geometry")
HELD_OUT_SEED, HELD_OUT_PROBLEMS = 20261124, 512
DEV_SEED, DEV_PROBLEMS = 20261125, 512
"""Other unseen problems: figures and choices come from these, so that the held-out ones stay unused."""
TRAIN_SEED, TRAIN_PROBLEMS = 20261126, 2048


def make(out: Path, recipe: Recipe, console: Console) -> Figures:
    """Train, measure, and write the whole folder; over what is there. One thread, so that the result is the same each time."""
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
    figures = measure(model, processor, dev)

    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    processor.save_pretrained(out)
    write_parquet(out / "data" / "train.parquet", training)
    write_parquet(out / "data" / "eval.parquet", held_out)
    making = Making(
        command=f"python -m uec.tasks.geometry.make --out {out} --steps {recipe.steps} --seed {recipe.seed}",
        seconds=seconds,
        parameters=model.num_parameters(),
        vision_parameters=model.model.visual.num_parameters(),
        tokens=len(processor.tokenizer),
        sha256=sha256(out / "model.safetensors"),
        train_problems=len(training),
        eval_problems=len(held_out),
    )
    (out / "README.md").write_text(write_card(recipe, making, figures), encoding="utf-8")
    console.print(f"{making.sha256}  {out / 'model.safetensors'}  ({seconds:.0f} CPU s of training)")
    return figures


def show(figures: Figures, console: Console) -> None:
    rows = [("all", figures.pass_at, figures.answer)]
    rows += [(kind, values, figures.answer_by_kind[kind]) for kind, values in figures.pass_at_by_kind.items()]
    for name, values, answer in rows:
        console.print(f"{name:10} " + "  ".join(f"pass@{k} {value:.3f}" for k, value in values.items()) + f"  answer alone {answer:.3f}")
    console.print(f"swapped pictures {figures.swapped:.3f}, answer alone {figures.swapped_answer:.3f}")
    console.print(f"entropy {figures.entropy:.3f}  difficult prompts {figures.difficult:.3f}")


def main(argv: list[str] | None = None) -> int:
    return command_line("geometry", OUT, Recipe(), lambda out, recipe, console: show(make(out, recipe, console), console), argv)


if __name__ == "__main__":
    sys.exit(main())
