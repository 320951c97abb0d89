"""Check a config: ranges, conflicts between fields, and the limits of model, cluster and disk.

No value is corrected silently: each message names the fields with their values, and the fix.
"""

import functools
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from uec.config.schema import Config
from uec.config.validate_algorithm import algorithm_conflicts
from uec.config.validate_lora import lora_conflicts, lora_notes
from uec.config.validate_values import out_of_range
from uec.errors import BadInput

MOST_RESPONSES = 10_000_000
"""Responses of a step."""
SMALL_ACTOR_CPUS = 0.01
"""CPUs that Ray reserves for the ReplayActor and for the DifficultyActor, each."""


def validate(cfg: Config) -> None:
    """Check a config without its surroundings. Raises BadInput with one line per problem."""
    problems = list(out_of_range(cfg, ""))
    if not problems:  # the conflicts need values in range
        parts = (_rollout_conflicts, algorithm_conflicts, _training_conflicts, lora_conflicts, _image_conflicts, _run_conflicts)
        problems = [problem for part in parts for problem in part(cfg)]
    if problems:
        raise BadInput("\n".join(problems))


def notes(cfg: Config) -> list[str]:
    """Return warnings about values that are allowed but perhaps not intended."""
    warnings = list(lora_notes(cfg))
    longest = cfg.data.max_prompt_tokens + cfg.rollout.max_tokens
    if cfg.learner.micro_batch_tokens < longest:
        warnings.append(
            f"{_given(cfg, 'learner.micro_batch_tokens')} is less than the longest sequence, data.max_prompt_tokens + rollout.max_tokens = "
            f"{longest}: a longer one is forwarded alone, and may need more memory"
        )
    bound = _largest_advantage(cfg)
    if cfg.replay.enabled and cfg.replay.min_advantage >= bound:
        warnings.append(
            f"{_given(cfg, 'replay.min_advantage')} is never exceeded: in groups of this size no advantage is above {bound:.3g}, "
            "so the replay store stays empty"
        )
    return warnings


def check_context(cfg: Config, context_length: int) -> None:
    """Check that the longest prompt and response fit into the model's context, in tokens. Raises BadInput."""
    excess = cfg.data.max_prompt_tokens + cfg.rollout.max_tokens - context_length
    if excess > 0:
        raise BadInput(
            f"{_given(cfg, 'data.max_prompt_tokens')} + {_given(cfg, 'rollout.max_tokens')} do not fit into the context of "
            f"{_given(cfg, 'model.path')}, {context_length} tokens; lower them by {excess} together"
        )


def check_cluster(cfg: Config, cpus: float, gpus: float, images: bool = False) -> None:
    """Check that the cluster has enough CPUs and GPUs for all actors; Ray would wait for missing ones for ever. Raises BadInput.

    `images`: the data has images, so that ImageActors are needed.
    """
    rollout, learner, reward = cfg.rollout, cfg.learner, cfg.reward
    problems = []
    cpus_needed = rollout.engines * rollout.cpus + learner.ranks * learner.cpus + reward.workers * reward.cpus + 2 * SMALL_ACTOR_CPUS
    shares = [("rollout.engines", "rollout.cpus"), ("learner.ranks", "learner.cpus"), ("reward.workers", "reward.cpus")]
    if images:
        cpus_needed += cfg.data.image.workers * cfg.data.image.cpus
        shares.append(("data.image.workers", "data.image.cpus"))
    if cpus_needed > cpus + 1e-6:
        terms = ", ".join(f"{_given(cfg, number)} x {_given(cfg, share)}" for number, share in shares)
        problems.append(
            f"the run wants {cpus_needed:g} CPUs and the cluster has {cpus:g}: {terms}, and {2 * SMALL_ACTOR_CPUS:g} for replay and "
            "difficulty; lower the numbers or the shares"
        )
    if not gpus and rollout.tensor_parallel > 1:
        problems.append(
            f"{_given(cfg, 'rollout.tensor_parallel')} divides an engine among GPUs, and the cluster has none; set it to 1"
        )
    engine_gpus, learner_gpus = rollout.engines * rollout.tensor_parallel, learner.ranks
    colocated = cfg.cluster.placement == "colocated"
    gpus_needed = max(engine_gpus, learner_gpus) if colocated else engine_gpus + learner_gpus
    if gpus and gpus_needed > gpus:
        problems.append(
            f"the run wants {gpus_needed} GPUs and the cluster has {gpus:g}: {_given(cfg, 'rollout.engines')} x "
            f"{_given(cfg, 'rollout.tensor_parallel')}, {_given(cfg, 'learner.ranks')}, {_given(cfg, 'cluster.placement')}; "
            f"{_fewer_gpus(cfg)}"
        )
    if problems:
        raise BadInput("\n".join(problems))


def _fewer_gpus(cfg: Config) -> str:
    """Return how to run on fewer GPUs, as the end of a message."""
    if cfg.cluster.placement == "colocated":
        return "lower rollout.engines and learner.ranks together"
    if makes_pairs(cfg):
        return "lower them, or share the GPUs with cluster.placement=colocated"
    return (
        "lower them, or share the GPUs with cluster.placement=colocated, which needs rollout.tensor_parallel=1 and as many "
        "rollout.engines as learner.ranks"
    )


def makes_pairs(cfg: Config) -> bool:
    """Return whether each engine can share a GPU with the learner rank of its number."""
    return cfg.rollout.tensor_parallel == 1 and cfg.rollout.engines == cfg.learner.ranks


def check_disk(cfg: Config, folder: Path, checkpoint: int | None = None) -> None:
    """Check that the run folder, or its nearest existing parent, is writable and has space for the checkpoints. Raises BadInput.

    `checkpoint`: bytes of one; None: from the model's files, if it is a folder.
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place, prefix=".uec-"):
            pass
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise BadInput(f"{_given(cfg, 'run.dir')}: cannot write to {place} ({error.strerror}); give a folder that is writable") from error
    need = (cfg.checkpoint.keep + 1) * (checkpoint or _checkpoint_bytes(cfg))
    if free < need:
        raise BadInput(
            f"{_given(cfg, 'run.dir')}: {place} has {free >> 20} MiB free, and {_given(cfg, 'checkpoint.keep')} and the next checkpoint "
            f"take about {need >> 20} MiB; make room, keep fewer, or use another disk"
        )


def _checkpoint_bytes(cfg: Config) -> int:
    """Return about 16 bytes per parameter: float32 weights, AdamW's two moments, the policy. A minimum if the model is not downloaded."""
    weights = sum(file.stat().st_size for file in Path(cfg.model.path).glob("*.safetensors"))
    return 8 * weights + (16 << 20)  # most files have 2 bytes per parameter


def is_plain_name(name: str) -> bool:
    """Return whether the name is a folder's name inside its parent."""
    return 0 < len(os.fsencode(name)) <= 200 and not name.startswith((".", "-")) and all(c.isalnum() or c in "._+=@-" for c in name)


def _given(cfg: Config, key: str) -> str:
    """Return a field with its value as on the command line, e.g. rollout.n=8."""
    value = functools.reduce(getattr, key.split("."), cfg)
    return f"{key}={str(value).lower() if isinstance(value, bool) else f'{value:g}' if isinstance(value, float) else value}"


# --- fields in conflict


def _rollout_conflicts(cfg: Config) -> Iterator[str]:
    temperature = _given(cfg, "exploration.temperature")
    if cfg.exploration.enabled and cfg.exploration.temperature <= cfg.rollout.temperature:
        yield (
            f"{temperature} must be above {_given(cfg, 'rollout.temperature')}: exploration samples hotter than regular rollouts; "
            "raise it, or set exploration.enabled=false"
        )
    if cfg.rollout.max_num_seqs is not None and cfg.rollout.max_batched_tokens < cfg.rollout.max_num_seqs:
        yield (
            f"{_given(cfg, 'rollout.max_batched_tokens')} is less than {_given(cfg, 'rollout.max_num_seqs')}: each running sequence needs "
            "a token a step; raise the first or lower the second"
        )
    if cfg.rollout.top_k == 0:
        yield "rollout.top_k=0 leaves no token to sample; -1 switches it off"
    if not cfg.reward.weights:
        yield "reward.weights is empty, so that every reward would be 0; name a part of the reward, e.g. {accuracy: 1.0}"
    elif not any(cfg.reward.weights.values()):
        yield f"{_given(cfg, 'reward.weights')} makes every reward 0; give a part a weight above 0"
    if "" in cfg.rollout.stop:
        yield "rollout.stop holds an empty text, which would end every response at once; remove it"
    backend, placement = _given(cfg, "weights.backend"), _given(cfg, "cluster.placement")
    if cfg.weights.backend == "ipc" and cfg.cluster.placement == "separate":
        yield f"{backend} needs engine and learner on one GPU, and {placement} keeps them on different ones; use nccl or auto"
    if cfg.weights.backend == "nccl" and cfg.cluster.placement == "colocated":
        yield f"{backend} needs engine and learner on different GPUs, and {placement} puts them on one; use ipc or auto"
    if cfg.cluster.placement == "colocated" and not makes_pairs(cfg):
        yield (
            f"{placement} puts an engine and a learner rank on each GPU: {_given(cfg, 'rollout.engines')} and "
            f"{_given(cfg, 'learner.ranks')} have to be equal and {_given(cfg, 'rollout.tensor_parallel')} has to be 1; "
            "or use cluster.placement=separate"
        )
    fields = (("rollout.sleep", cfg.rollout.sleep > 0), ("learner.offload", cfg.learner.offload != "none"))
    turns = [name for name, on in fields if on]
    if cfg.cluster.placement != "colocated":
        for name in turns:
            yield f"{_given(cfg, name)} lets engine and learner take turns with one GPU's memory; it needs cluster.placement=colocated"
    elif turns and cfg.train.max_staleness:
        yield (
            f"{_given(cfg, turns[0])} lets engine and learner take turns, and {_given(cfg, 'train.max_staleness')} runs them at once; "
            "set train.max_staleness=0, or leave the other out"
        )
    if cfg.rollout.sleep == 2 and cfg.model.freeze_vision_tower:
        yield (
            "rollout.sleep=2 drops all weights of the engine, and the weight sync omits the vision tower with "
            "model.freeze_vision_tower=true; set rollout.sleep=1"
        )
    if cfg.cluster.placement == "auto" and cfg.weights.backend == "ipc" and not makes_pairs(cfg):
        yield (
            f"{backend} needs engine and learner on one GPU: {_given(cfg, 'rollout.engines')} and {_given(cfg, 'learner.ranks')} "
            f"have to be equal and {_given(cfg, 'rollout.tensor_parallel')} has to be 1; or use weights.backend=auto"
        )
    if not cfg.data.chat and cfg.data.system is not None:
        yield (
            f"{_given(cfg, 'data.system')} is a chat message, and data.chat=false applies no chat template; "
            "remove it, put the text into data.template, or set data.chat=true"
        )


def _training_conflicts(cfg: Config) -> Iterator[str]:
    train, learner, replay = cfg.train, cfg.learner, cfg.replay
    batch = train.prompts_per_step * cfg.rollout.n
    if batch % learner.ranks:
        yield (
            f"{_given(cfg, 'train.prompts_per_step')} x {_given(cfg, 'rollout.n')} = {batch} trajectories cannot be divided by "
            f"{_given(cfg, 'learner.ranks')}; make the product a multiple of it"
        )
    responses = batch * cfg.rollout.rounds + train.prompts_per_step * (cfg.exploration.n if cfg.exploration.enabled else 0)
    if responses > MOST_RESPONSES:
        yield (
            f"{_given(cfg, 'train.prompts_per_step')}, {_given(cfg, 'rollout.n')}, {_given(cfg, 'rollout.rounds')} and "
            f"{_given(cfg, 'exploration.n')} can make {responses} responses a step; a step takes at most {MOST_RESPONSES}: lower them"
        )
    if len(learner.betas) != 2:
        yield f"{_given(cfg, 'learner.betas')} must be two numbers, e.g. [0.9, 0.95]"
    offload, stage = _given(cfg, "learner.cpu_offload"), _given(cfg, "learner.zero_stage")
    if learner.cpu_offload == "parameters" and learner.zero_stage < 3:
        yield f"{offload} needs partitioned weights, and {stage} keeps them whole; set learner.zero_stage=3 or cpu_offload=optimizer"
    if learner.cpu_offload == "optimizer" and learner.zero_stage == 0:
        yield f"{offload} needs ZeRO, and {stage} switches it off; set learner.zero_stage to 1, 2 or 3"
    if learner.cpu_offload == "parameters" and learner.offload != "none":
        yield f"{_given(cfg, 'learner.offload')} has no states to move with {offload}; set one of them to none"
    updates = train.steps + (train.steps // replay.every if replay.enabled else 0)
    if learner.warmup_steps > updates * learner.optimizer_steps:
        yield (
            f"{_given(cfg, 'learner.warmup_steps')} is more than the run's {updates * learner.optimizer_steps} optimizer steps "
            f"({_given(cfg, 'train.steps')}, {_given(cfg, 'learner.optimizer_steps')}); lower it: the full learning rate is never reached"
        )
    if not replay.enabled:
        return
    size = f"replay.capacity={cfg.replay_capacity()}" + ("" if replay.capacity else " (2 x train.prompts_per_step x rollout.n)")
    if replay.rows is not None and replay.rows > cfg.replay_capacity():
        yield f"{_given(cfg, 'replay.rows')} is more than {size} can hold; lower it or raise capacity"
    if replay.min_rows > cfg.replay_capacity():
        yield f"{_given(cfg, 'replay.min_rows')} is more than {size} can hold, so replay would never run; lower it or raise capacity"
    if replay.source == "exploration" and not cfg.exploration.enabled:
        yield "replay.source=exploration with exploration.enabled=false admits nothing; set replay.source=all or replay.enabled=false"


def _image_conflicts(cfg: Config) -> Iterator[str]:
    data, image = cfg.data, cfg.data.image
    least, most = _given(cfg, "data.image.min_pixels"), _given(cfg, "data.image.max_pixels")
    if image.min_pixels is not None and image.max_pixels is not None and image.min_pixels > image.max_pixels:
        yield f"{least} is more than {most}: no image can satisfy both; lower the first or raise the second"
    if data.image_key is not None and data.image_key in (data.prompt_key, data.answer_key):
        other = "data.prompt_key" if data.image_key == data.prompt_key else "data.answer_key"
        yield f"{_given(cfg, 'data.image_key')} and {_given(cfg, other)} are the same column; name a different column for each"
    if data.image_key is None and image.root is not None:
        yield f"{_given(cfg, 'data.image.root')} has no effect while data.image_key is not set; set data.image_key, or remove the root"


def _run_conflicts(cfg: Config) -> Iterator[str]:
    run, evaluation = cfg.run, cfg.eval
    if run.name is not None and not is_plain_name(run.name):
        yield (
            f"run.name={run.name!r} must be the name of one folder, of letters, digits and . _ + = @ - (not a dot or dash first); "
            "set run.dir to put the folder elsewhere"
        )
    if run.resume == "auto" and run.name is None:
        yield "run.resume=auto continues the run that run.name names, and run.name is not set; set it, or start from the run's config.yaml"
    if run.resume != "never" and run.overwrite:
        yield f"{_given(cfg, 'run.resume')} keeps the run's folder and run.overwrite=true deletes it; choose one"
    if not evaluation.k:
        yield "eval.k is empty; name at least one, e.g. [1]"
    elif max(evaluation.k) > evaluation.n:
        yield f"{_given(cfg, 'eval.k')}: pass@{max(evaluation.k)} needs as many responses, but {_given(cfg, 'eval.n')}; raise n or cut k"
    if evaluation.every and cfg.data.eval is None:
        yield f"{_given(cfg, 'eval.every')} has nothing to evaluate on: data.eval is not set; set it, or eval.every=0"
    for sink in sorted({sink for sink in cfg.tracking if cfg.tracking.count(sink) > 1}):
        yield f"tracking names {sink} twice; leave one out"


def _largest_advantage(cfg: Config) -> float:
    """Return the advantage of one success among failures, for reward parts from 0 to 1; infinity if the estimator is not per group."""
    reward_range = sum(cfg.reward.weights.values()) + (cfg.reward.overlong_share is not None)
    bounds = {
        "group": lambda n: (n - 1) / math.sqrt(n),  # for any rewards, with the unbiased standard deviation
        "centred": lambda n: reward_range * (n - 1) / n,
        "rloo": lambda n: reward_range,
    }
    if cfg.advantage.estimator not in bounds:
        return math.inf
    sizes = [] if cfg.replay.source == "exploration" else [cfg.rollout.n]
    if cfg.exploration.enabled:
        sizes.append(cfg.exploration.n + (cfg.rollout.n if cfg.exploration.group == "joint" else 0))
    return max((bounds[cfg.advantage.estimator](n) for n in sizes), default=0.0)
