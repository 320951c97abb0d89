"""The common first part of every program: check all inputs, and join or start a Ray cluster."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray

from actors.driver.checkpoint import read_driver
from actors.engines import check_engine
from actors.runtime.cluster import Resources, connect
from actors.weights.shm import RUN_FOLDERS
from uec.config.schema import Config
from uec.config.validate import check_context
from uec.data.assistant_turn import resolve_stop_tokens
from uec.data.dataset import Dataset, digest
from uec.data.prompt_order import PromptOrder
from uec.data.prompts import load_dataset
from uec.memory.object_store import resolve_object_store
from uec.models.adapter_folder import check_adapter
from uec.models.architecture import architecture_notes
from uec.models.hf_checkpoint import check_writable
from uec.models.policy_model import meta_policy_model
from uec.models.pretrained import context_length, load_config, load_tokenizer, locate_model, resolve_model
from uec.models.processor import load_processor
from uec.models.vocabulary import check_prompts, check_vocabulary
from uec.models.weight_files import has_weights
from uec.rewards.reward_function import absolute_names, load_reward
from uec.run_folder import RunFolder
from uec.system.cleanup import cleaned
from uec.system.ray_job import enclosing_job_copy
from uec.system.user_code import absolute_name

LoadData = Callable[[Config, Any, Any], Dataset]
"""(config, tokenizer, processor) -> the data sets."""


def preflight(cfg: Config, load: LoadData = load_dataset, *, weights: bool = True) -> Dataset:
    """Check the reward function, the engine, the model and the data of a validated config. Raises BadInput, before any actor starts.

    Makes the paths of the user's functions absolute, because an actor may run in another folder, and completes rollout.stop_tokens.
    `weights`: the model's weights must be there; a dry run checks them only where they are.
    """
    reward = load_reward(cfg.reward)
    check_engine(cfg.rollout.backend)
    if enclosing_job_copy(Path.cwd()) is None:  # a job's actors run in the same copy, which the next job does not have
        cfg.reward.fn = absolute_names(cfg.reward.fn)
        cfg.loss.policy = absolute_name(cfg.loss.policy)
        cfg.rollout.backend = absolute_name(cfg.rollout.backend)
    if weights or has_weights(Path(locate_model(cfg.model))):
        resolve_model(cfg.model)
    check_context(cfg, context_length(cfg.model))
    if cfg.lora.enabled:
        meta_policy_model(cfg.model, cfg.lora, merged=cfg.lora.exchange == "merged")
        if cfg.lora.path is not None:
            check_adapter(cfg.lora)
    tokenizer = load_tokenizer(cfg.model)
    check_vocabulary(cfg.model, tokenizer)
    processor = load_processor(cfg.model, cfg.data.image, tokenizer)
    check_writable(cfg.model, tokenizer if processor is None else processor.processor)
    notes = [*architecture_notes(cfg.learner, load_config(cfg.model)), *resolve_stop_tokens(cfg, tokenizer, processor)]
    dataset = replace(load(cfg, tokenizer, processor), notes=tuple(notes))
    check_prompts(cfg.model, tokenizer, [*dataset.train, *dataset.eval])
    resolve_object_store(cfg, dataset.train or dataset.eval, processor)
    reward.check_columns((dataset.train or dataset.eval)[0].row)
    return dataset


def check_resume(cfg: Config, folder: RunFolder, dataset: Dataset) -> None:
    """Check that the checkpoint to resume from has the prompts of `dataset`. Raises BadInput, before the run folder is touched."""
    checkpoint = folder.checkpoint(cfg)
    if checkpoint is not None:
        order = PromptOrder(len(dataset.train), cfg.run.seed, cfg.data.shuffle, digest(dataset.train))
        order.check(read_driver(checkpoint)["driver"]["order"])


@contextmanager
def cluster(cfg: Config, namespace: str) -> Iterator[Resources]:
    """Join or start a Ray cluster, and leave it at the end. Raises BadInput. `namespace`: Ray's, for the actors' names.

    Nothing of the run remains, even if this process is killed (uec/system/cleanup.py).
    """
    with cleaned(RUN_FOLDERS):
        resources = connect(cfg, namespace)
        try:
            yield resources
        finally:
            ray.shutdown()


def dropped(dataset: Dataset, cfg: Config) -> list[str]:
    """Return a line for each data set that lost prompts to data.max_prompt_tokens."""
    sets = (("data.train", dataset.train, dataset.dropped_train), ("data.eval", dataset.eval, dataset.dropped_eval))
    return [
        f"{name}: {lost} of {len(kept) + lost} prompts dropped, longer than data.max_prompt_tokens={cfg.data.max_prompt_tokens}"
        for name, kept, lost in sets
        if lost
    ]
