"""A training run from config to summary: all checks, then the actors, then the Controller's loop."""

import asyncio
import signal
import sys
import time
from pathlib import Path

import ray

from actors.driver.checkpoint import Checkpoints, read_driver
from actors.driver.controller import Controller
from actors.driver.rollout_log import RolloutLog
from actors.driver.weight_sync import WeightExchange, tolerance
from actors.runtime.cluster import connect, place_model
from actors.runtime.signals import STATUS, listen
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.config.validate import check_cluster, check_context, check_disk, notes
from uec.data.dataset import Dataset
from uec.data.embedded import write_images
from uec.data.prompts import load_dataset
from uec.models.processor import load_processor
from uec.models.source import context_length, load_tokenizer, resolve_model
from uec.rewards.reward_function import absolute_names, load_reward
from uec.run_folder import RunFolder
from uec.system.platform import Platform, detect
from uec.system.ray_job import copy_around, place_runs, refuse_copy, stop_note
from uec.system.user_code import absolute_name
from uec.tracking.tracker import Tracker, make_tracker
from uec.types import Interrupted


def train(cfg: Config, config_path: str) -> int:
    """Run a validated config; returns the exit status. Raises BadInput before any actor starts, RunFailed after."""
    begin = time.perf_counter()
    of_job = [*place_runs(cfg, Path.cwd()), *stop_note()]
    folder = RunFolder.prepare(cfg, Path(config_path))
    refuse_copy(folder.path)
    check_disk(cfg, folder.path)
    resolve_model(cfg.model)  # with weights: a dry run does without
    dataset, tracker = prepare(cfg), make_tracker(cfg)
    resources = connect(cfg, f"uec-{folder.name}")
    try:
        check_cluster(cfg, resources.cpus, resources.gpus, dataset.has_pictures)
        place_model(cfg, resources)
        platform = detect(cfg, resources.device)
        checkpoint = folder.open(cfg)
        dataset = write_images(dataset, folder.images)
        with tracker:
            tracker.start(cfg, folder.path, read_driver(checkpoint)["step"] if checkpoint else 0)
            if resources.joined:
                tracker.event(f"joined the Ray cluster at {resources.joined}: {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
            for note in [*of_job, *notes(cfg), *dropped(dataset, cfg)]:
                tracker.event(note)
            return asyncio.run(_run(cfg, platform, dataset, folder, checkpoint, tracker, begin))
    finally:
        ray.shutdown()


def prepare(cfg: Config) -> Dataset:
    """What the run takes from outside, checked: reward function, data, and of the model all but its weights."""
    reward = load_reward(cfg.reward)
    if copy_around(Path.cwd()) is None:  # a job's actors run in the same copy, whose place the next job does not have
        cfg.reward.fn = absolute_names(cfg.reward.fn)  # an actor may run in another folder
        cfg.loss.policy = absolute_name(cfg.loss.policy)
    check_context(cfg, context_length(cfg.model))
    tokenizer = load_tokenizer(cfg.model)
    dataset = load_dataset(cfg, tokenizer, load_processor(cfg.model, cfg.data.image, tokenizer))
    reward.check_columns(dataset.train[0].row)
    return dataset


def dropped(dataset: Dataset, cfg: Config) -> list[str]:
    """A line for each data set that lost prompts to data.max_prompt_tokens."""
    sets = (("data.train", dataset.train, dataset.dropped_train), ("data.eval", dataset.eval, dataset.dropped_eval))
    return [
        f"{name}: {lost} of {len(kept) + lost} prompts dropped, longer than data.max_prompt_tokens={cfg.data.max_prompt_tokens}"
        for name, kept, lost in sets
        if lost
    ]


async def _run(
    cfg: Config, platform: Platform, dataset: Dataset, folder: RunFolder, checkpoint: Path | None, tracker: Tracker, begin: float
) -> int:
    supervisor = Supervisor(cfg, platform.device, folder.logs, tracker)
    exchange = WeightExchange(cfg, supervisor, dataset.train, tolerance(cfg, platform))
    log = RolloutLog(folder, supervisor, cfg.run.save_rollouts)
    controller = Controller(cfg, supervisor, dataset, exchange, log, tracker)
    checkpoints = Checkpoints(cfg, folder, supervisor)
    if checkpoint is not None:
        checkpoints.take_up(controller, checkpoint)
    listen(lambda signum: controller.interrupt(Interrupted(signum)))
    try:
        await supervisor.start([*dataset.train, *dataset.eval])
        if checkpoint is not None:
            await checkpoints.restore(controller, checkpoint)
        await controller.run(checkpoints)
        await log.flush()
    except asyncio.CancelledError:
        if controller.interrupted is None:
            raise
    finally:
        controller.ahead.close()
        await supervisor.stop()
    if controller.interrupted is not None:
        tracker.close(ok=False)
        _say_how_to_resume(folder, controller)
        return STATUS[controller.interrupted.signum]
    tracker.finish(tracker.summary(time.perf_counter() - begin))
    return 0


def _say_how_to_resume(folder: RunFolder, controller: Controller) -> None:
    latest = folder.latest_checkpoint()
    name = signal.Signals(controller.interrupted.signum).name if controller.interrupted else ""
    if latest is None:
        print(f"uec: stopped by {name} before the first checkpoint; {folder.path} holds nothing to resume from", file=sys.stderr)
        return
    modules = {"train.py": "python -m launch.train", "cli.py": "python -m uec.commands.cli train"}
    program = modules.get(Path(sys.argv[0]).name, f"{sys.argv[0]} train")
    print(f"uec: stopped by {name}, checkpoint {latest}. To go on:\n     {program} {folder.config} run.resume=auto", file=sys.stderr)
