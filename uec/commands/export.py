"""`uec export RUN_OR_CHECKPOINT --to DIR`."""

import argparse
from pathlib import Path

from uec.errors import BadInput

NAME = "export"
HELP = "write a run's model to a folder for transformers and vLLM"
DESCRIPTION = """Copy a checkpoint's model to a folder that transformers and `vllm serve` load: weights, config, tokenizer or processor, a
generation config that samples as in training, and a model card with data, algorithm and metrics."""
EXAMPLES = """examples:
  uec export runs/NAME --to exported/NAME                    # the newest checkpoint
  uec export runs/NAME --to exported/NAME-50 --step 50
  uec export runs/NAME --merge --to exported/NAME            # a LoRA run
  uec export runs/NAME/checkpoints/step_000050 --to exported/NAME-50
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `uec export`."""
    parser.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT", help="a run folder, or one of its checkpoints")
    parser.add_argument("--to", required=True, metavar="DIR", help="the folder to write")
    parser.add_argument("--step", type=int, metavar="N", help="step of the checkpoint; default: the newest")
    parser.add_argument("--merge", action="store_true", help="add a LoRA run's adapter to its model's weights")
    parser.add_argument("--overwrite", action="store_true", help="replace the model in DIR")


def run(arguments: argparse.Namespace) -> int:
    """Check the checkpoint, copy the model, and write the card."""
    from dataclasses import replace

    from uec.config.file import load_config
    from uec.eval.target import CONFIG, find_target
    from uec.export.card import model_card, read_record
    from uec.export.folder import check_place, tokenizer_is_rebuilt, write_model
    from uec.models.adapter_folder import is_adapter
    from uec.models.merge import merged
    from uec.models.model_config import is_vision_language
    from uec.models.pretrained import load_config as read_model_config
    from uec.models.pretrained import resolve_model
    from uec.paths import check_path
    from uec.system.process_env import prepare_driver

    prepare_driver()
    check_path(arguments.checkpoint, "RUN_OR_CHECKPOINT")
    check_path(arguments.to, "--to")
    target = find_target(arguments.checkpoint, arguments.step)
    if target.run is None or target.step is None:
        raise BadInput(
            f"{arguments.checkpoint} is neither a run folder nor a checkpoint in one (runs/NAME/checkpoints/step_000100); the model card "
            "needs the run's config.yaml and metrics; a model folder needs no export"
        )
    adapter = is_adapter(Path(target.path))
    if adapter and not arguments.merge:
        raise BadInput(
            f"{arguments.checkpoint} holds an adapter; add --merge to export the whole model, or copy {target.path}, which peft loads"
        )
    if arguments.merge and not adapter:
        raise BadInput(f"--merge is for runs with lora.enabled=true, and {arguments.checkpoint} holds a whole model; leave it out")
    place = Path(arguments.to)
    check_place(place, target, arguments.overwrite)
    trained = load_config(target.run / CONFIG, [])
    with merged(target.path) as path:
        exported = load_config(target.run / CONFIG, [f"model.path={path}"])
        resolve_model(exported.model)
        record, vision = read_record(target.run, target.step), is_vision_language(read_model_config(exported.model))
        rebuilt = tokenizer_is_rebuilt(exported.model)
        card = model_card(trained, target.run.name, target.step, record, rebuilt, vision)
        folder = write_model(place, replace(target, path=path), exported, card)
    print(f"step {target.step} of {target.run.name}: {folder}")
    print(f"vllm serve {folder}" + (f" --tokenizer {folder}/tokenizer" if rebuilt else ""))
    return 0
