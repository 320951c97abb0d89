"""A training run: check everything, start the actors, run the Controller's loop, and show the summary."""

import asyncio
import signal
import sys
import time
from pathlib import Path

from actors.driver.actor_specs import supervise, training_actors
from actors.driver.checkpoint import Checkpoints, read_driver
from actors.driver.controller import Controller
from actors.driver.rollout_log import RolloutLog
from actors.driver.weight_sync import WeightSync
from actors.programs.preflight import check_resume, cluster, dropped, preflight
from actors.runtime.cluster import fetch_model, place_model
from actors.runtime.failures import LearnerLost
from actors.runtime.signals import STATUS, listen
from uec.config.schema import Config
from uec.config.validate import check_cluster, check_disk, notes
from uec.data.dataset import Dataset
from uec.data.embedded_images import write_images
from uec.doctor.devices import free_memory
from uec.errors import RunFailed
from uec.memory.checkpoints import check_checkpoints
from uec.memory.memory_report import check_host
from uec.memory.placement import resolve_placement
from uec.models.architecture import check_device
from uec.models.logprob_gap import tolerance
from uec.models.pretrained import load_config
from uec.run_folder import RunFolder
from uec.system.platform import Platform, detect
from uec.system.ray_job import move_run_dir, refuse_job_copy, stop_note
from uec.tracking.failure import Failure
from uec.tracking.tracker import Tracker, make_tracker
from uec.types import Interrupted


def train(cfg: Config, config_path: str) -> int:
    """Run a validated config and return the exit status. Raises BadInput before any actor starts, RunFailed after."""
    begin = time.perf_counter()
    job_notes = [*move_run_dir(cfg, Path.cwd()), *stop_note()]
    folder = RunFolder.prepare(cfg, Path(config_path))
    refuse_job_copy(folder.path)
    check_disk(cfg, folder.path)
    dataset, tracker = preflight(cfg), make_tracker(cfg)
    check_checkpoints(cfg, folder.path)
    check_resume(cfg, folder, dataset)
    with cluster(cfg, f"uec-{folder.name}") as resources:
        place_model(cfg, resources)
        chosen = resolve_placement(cfg, resources.gpus, resources.gpu)
        check_cluster(cfg, resources.cpus, resources.gpus, dataset.has_images)
        platform = detect(cfg, resources.device)
        if platform.device == "cpu" and not resources.joined:
            check_host(cfg, free_memory()[1], [len(prompt.tokens) for prompt in dataset.train])
        check_device(load_config(cfg.model), platform.device, cfg.model.dtype)
        fetch_model(cfg)
        checkpoint = folder.open(cfg)
        dataset = write_images(dataset, folder.images)
        passed_over = [f"checkpoint passed over: {problem}; resuming from {checkpoint}" for problem in folder.damaged.values()]
        said = [*passed_over, *job_notes, *chosen, *notes(cfg), *dataset.notes, *dropped(dataset, cfg)]
        lost = 0  # times that learners were lost
        while True:
            with tracker:
                tracker.start(cfg, folder.path, read_driver(checkpoint)["step"] if checkpoint else 0)
                if resources.joined:
                    tracker.event(f"joined the Ray cluster at {resources.joined}: {resources.cpus:g} CPUs, {resources.gpus:g} GPUs")
                for note in said:
                    tracker.event(note)
                try:
                    return asyncio.run(_run(cfg, platform, dataset, folder, checkpoint, tracker, begin, lost))
                except LearnerLost as error:
                    most, said = cfg.supervise.learner_restarts, []
                    action = f"going back to the last checkpoint ({lost + 1} of {most})" if lost < most else "ending the run"
                    tracker.actor_failed(Failure(error.actor, error.node, error.cause, action))
                    if lost == most:
                        raise _went_back_enough(folder, error, lost) from error
            checkpoint, tracker, lost = folder.rewind(), make_tracker(cfg), lost + 1


def _went_back_enough(folder: RunFolder, error: LearnerLost, times: int) -> RunFailed:
    """Return the end of a run that lost its learners once more, with the command that resumes."""
    latest = folder.latest_checkpoint()
    resume = f"To go on from {latest}:\n     {_resume_command(folder)}" if latest else f"{folder.path} holds nothing to resume from."
    return RunFailed(f"{error}\nThe run went back {times} times (supervise.learner_restarts). {resume}")


async def _run(
    cfg: Config, platform: Platform, dataset: Dataset, folder: RunFolder, checkpoint: Path | None, tracker: Tracker, begin: float, lost: int
) -> int:
    """Run from a checkpoint to the end. `lost`: how often learners were lost before. Raises LearnerLost."""
    namespace = f"uec-{folder.name}-{lost}" if lost else None
    supervisor = supervise(cfg, training_actors(cfg, platform.device, folder.journals), folder.logs, tracker, namespace)
    weights = WeightSync(cfg, supervisor, dataset.train, tolerance(cfg, platform))
    log = RolloutLog(folder, supervisor, cfg.run.save_rollouts)
    controller = Controller(cfg, supervisor, dataset, weights, log, tracker)
    checkpoints = Checkpoints(cfg, folder, supervisor)
    if checkpoint is not None:
        controller.load(read_driver(checkpoint)["driver"])
    listen(lambda signum: controller.interrupt(Interrupted(signum)))
    try:
        await supervisor.start([*dataset.train, *dataset.eval])
        if checkpoint is not None:
            controller.batch.add(await checkpoints.restore(checkpoint))
            await controller.replay.restore()
        await controller.run(checkpoints)
        await log.flush()
    except RunFailed:
        await checkpoints.close()
        raise
    except asyncio.CancelledError:
        if controller.interrupted is None:
            raise
    finally:
        controller.prefetcher.close()
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
    print(f"uec: stopped by {name}, checkpoint {latest}. To go on:\n     {_resume_command(folder)}", file=sys.stderr)


def _resume_command(folder: RunFolder) -> str:
    modules = {"train.py": "python -m launch.train", "cli.py": "python -m uec.commands.cli train"}
    program = modules.get(Path(sys.argv[0]).name, f"{sys.argv[0]} train")
    return f"{program} {folder.config} run.resume=auto"
