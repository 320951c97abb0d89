"""A training run from config to summary: all checks, then the actors, then the Controller's loop."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import ray

from actors.checkpoint import Checkpoints, read_driver
from actors.cluster import Resources, connect
from actors.controller import Controller
from actors.exchange import WeightExchange, tolerance
from actors.rollout_log import RolloutLog
from actors.supervisor import Supervisor
from uec.config import Config
from uec.data.embedded import write_images
from uec.data.prompts import Dataset, load_dataset
from uec.errors import EXIT_SIGHUP, EXIT_SIGINT, EXIT_SIGTERM
from uec.imports import absolute_name
from uec.job import copy_around, place_runs, refuse_copy, stop_note
from uec.models.processor import load_processor
from uec.models.source import absolute_path, context_length, load_tokenizer, resolve_model
from uec.platform import Platform, detect
from uec.rewards.load import absolute_names, load_reward
from uec.run_folder import RunFolder
from uec.tracking.tracker import Tracker, make_tracker
from uec.types import Interrupted
from uec.validate import check_cluster, check_context, check_disk, notes

STATUS = {signal.SIGINT: EXIT_SIGINT, signal.SIGTERM: EXIT_SIGTERM, signal.SIGHUP: EXIT_SIGHUP}


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
        pictures = any(prompt.images for prompt in [*dataset.train, *dataset.eval])
        check_cluster(cfg, resources.cpus, resources.gpus, pictures)
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


def place_model(cfg: Config, resources: Resources) -> None:
    """Actors of a cluster that was joined work where its nodes were started, those of a job in their copy of the working folder."""
    if resources.joined and copy_around(Path.cwd()) is None:
        cfg.model.path = absolute_path(cfg.model)


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


def listen(interrupt: Callable[[signal.Signals], bool]) -> None:
    """Ctrl-C, SIGTERM and a closed terminal call `interrupt`; where it says that there is nothing to wait for, the run ends at once.

    What was started under nohup stays when its terminal is closed. A hang-up may come twice, from shell and terminal: it counts once.
    """
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    closed = False
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def heard(signum: signal.Signals) -> None:
        nonlocal closed
        if signum is signal.SIGHUP:
            if closed:
                return
            closed = True
            for descriptor in terminals:  # nobody is there to read
                os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if not interrupt(signum):
            main.cancel()

    for signum in STATUS:
        if signum is not signal.SIGHUP or signal.getsignal(signum) is not signal.SIG_IGN:
            loop.add_signal_handler(signum, heard, signum)


def _say_how_to_resume(folder: RunFolder, controller: Controller) -> None:
    latest = folder.latest_checkpoint()
    name = signal.Signals(controller.interrupted.signum).name if controller.interrupted else ""
    if latest is None:
        print(f"uec: stopped by {name} before the first checkpoint; {folder.path} holds nothing to resume from", file=sys.stderr)
        return
    modules = {"train.py": "python -m launch.train", "cli.py": "python -m uec.cli train"}
    program = modules.get(Path(sys.argv[0]).name, f"{sys.argv[0]} train")
    print(f"uec: stopped by {name}, checkpoint {latest}. To go on:\n     {program} {folder.config} run.resume=auto", file=sys.stderr)
