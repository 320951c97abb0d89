"""`uec eval`: evaluates models one after the other. All engines and graders sample; then learners compute the entropy in their place.

Engines and learners never run together, so that a GPU needs room for one copy of the weights only.
"""

import asyncio
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from actors.driver.actor_specs import entropy_actors, sampling_actors, supervise
from actors.driver.learner_group import LearnerGroup
from actors.driver.rollouts import RolloutStream
from actors.programs.preflight import cluster, preflight
from actors.runtime.cluster import Resources, fetch_model, place_model
from actors.runtime.signals import STATUS, listen
from actors.runtime.slots import ActorSpec
from actors.runtime.supervisor import Supervisor, awaited
from uec.config.fields import texts
from uec.config.schema import Config
from uec.config.validate import check_cluster
from uec.data.dataset import Dataset
from uec.data.embedded_images import write_images
from uec.data.prompts import load_held_out
from uec.errors import BadInput, RunFailed
from uec.eval.benchmarks import instead_of
from uec.eval.console import evaluation_sink
from uec.eval.fingerprint import model_fingerprint, settings_fingerprint
from uec.eval.folder import EvalFolder, default_name
from uec.eval.predictions import Prediction, Predictions
from uec.eval.results import make_results, plural, results_console
from uec.eval.settings import Candidate
from uec.eval.subsets import by_column
from uec.memory.placement import resolve_placement
from uec.rewards.reward_function import is_error
from uec.system.platform import detect
from uec.system.ray_job import outside_job_copy
from uec.tracking.tracker import Tracker
from uec.types import Kind, Prompt, TrainingSample, Trajectory

NOTHING = "data.eval: there is no file or folder"
"""The first words of the message for a data set that does not exist."""

ENTROPIES_AT_ONCE = 256
"""Responses whose tokens go to the learners as one object."""

ENOUGH = 100
"""Gradings after which failures of the reward function are checked against their limit."""


def evaluate(candidates: Sequence[Candidate], to: str | None, by: str | None, entropy: bool, overwrite: bool, notes: list[str]) -> int:
    """Evaluate and report; return the exit status. Raises BadInput before any actor starts, RunFailed after.

    `entropy`: compute it, too. `by`: a column of the data by which results are divided; None: by difficulty for the first model.
    """
    place, said = outside_job_copy(Path(to) if to else Path("evals") / default_name(candidates), Path.cwd(), "--to")
    folder = EvalFolder(place)
    datasets = [_prepare(candidate.cfg) for candidate in candidates]
    parts = by_column(datasets[0].eval, by) if by is not None else None
    shared = settings_fingerprint(candidates[0].cfg)
    models = {one.target.label: model_fingerprint(one.cfg, dataset.eval) for one, dataset in zip(candidates, datasets, strict=True)}
    folder.check(shared, models, overwrite)
    folder.open(shared, models, overwrite)
    datasets = [write_images(dataset, folder.images) for dataset in datasets]
    folder.write_prompts(datasets[0].eval)
    found = [folder.read(one.target.label, one.cfg.eval.n) for one in candidates]
    with Tracker([evaluation_sink()]) as tracker:
        tracker.start(candidates[0].cfg, folder.path)
        of_models = dict.fromkeys(note for dataset in datasets for note in dataset.notes)
        for line in [*said, *notes, *of_models, *_dropped(datasets[0], candidates[0].cfg)]:
            tracker.event(line)
        run = EvaluationRun(candidates, [dataset.eval for dataset in datasets], found, folder, tracker, entropy)
        if run.todo:
            with cluster(candidates[0].cfg, f"uec-eval-{folder.path.name}") as resources:
                for one, dataset in zip(candidates, datasets, strict=True):
                    place_model(one.cfg, resources)
                    resolve_placement(one.cfg, resources.gpus, resources.gpu, together=False)
                    _check_room(one.cfg, resources, dataset.eval)
                for one in candidates:
                    fetch_model(one.cfg)
                asyncio.run(run.run(resources.device))
    if run.interrupted is not None:
        print(_how_to_continue(run, folder), file=sys.stderr)
        return STATUS[run.interrupted]
    results = make_results(candidates, [dataset.eval for dataset in datasets], found, parts)
    results.write(folder.summary)
    results.show(results_console())
    print(f"{folder.path}", flush=True)
    return 0


class EvaluationRun:
    """The models, their prompts, and their responses so far."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        prompts: Sequence[list[Prompt]],  # of each model
        found: Sequence[Predictions],
        folder: EvalFolder,
        tracker: Tracker,
        entropy: bool,
    ) -> None:
        self.work = list(zip(candidates, prompts, found, strict=True))
        self.folder = folder
        self.tracker = tracker
        self.entropy = entropy
        self.interrupted: signal.Signals | None = None

    @property
    def todo(self) -> int:
        """Prompts without a response or an entropy, over all models."""
        return sum(len(_unanswered(prompts, found)) + len(self._without_entropy(found)) for _, prompts, found in self.work)

    async def run(self, device: str) -> None:
        """Run what is missing for every model. Ctrl-C, SIGTERM and SIGHUP end it early and set `interrupted`."""
        listen(self._end)
        try:
            for candidate, prompts, found in self.work:
                cfg, label = _for_actors(candidate.cfg), candidate.target.label
                missing = _unanswered(prompts, found)
                if done := len(prompts) - len(missing):
                    self.tracker.event(f"{label}: {plural(done, 'prompt')} of {len(prompts)} answered before")
                if missing:
                    actors = self._supervise(cfg, sampling_actors(cfg, device), label, "sampling")
                    await self._with(actors, prompts, self._sample(actors, label, missing, len(prompts), found))
                if self._without_entropy(found):
                    actors = self._supervise(cfg, entropy_actors(cfg, device), label, "entropy")
                    await self._with(actors, prompts, self._entropies(actors, label, prompts, found))
        except asyncio.CancelledError:
            if self.interrupted is None:
                raise

    def _supervise(self, cfg: Config, specs: list[ActorSpec], label: str, what: str) -> Supervisor:
        namespace = f"{self.folder.path.name}-{label}-{what}"
        return supervise(cfg, specs, self.folder.logs(label).absolute(), self.tracker, namespace)

    async def _with(self, actors: Supervisor, prompts: list[Prompt], work: Any) -> None:
        """Start the actors, do the work, and end the actors."""
        try:
            await actors.start(prompts)
            await work
        finally:
            work.close()
            await actors.stop()

    async def _sample(self, actors: Supervisor, label: str, missing: list[Prompt], total: int, found: Predictions) -> None:
        """Sample n responses to each prompt that has none; keep each group when it is complete."""
        settings, stream, failed = actors.cfg.eval, RolloutStream(actors), Failures(actors.cfg)

        async def one(prompt: Prompt) -> None:
            group = await stream.sample(prompt.index, settings.n, settings.temperature, Kind.EVAL)
            failed.add(group)
            found.add(await self._read(actors, group))
            self.tracker.progress(f"{label}: prompts answered", len(found.groups), total)

        tasks = [asyncio.create_task(one(prompt)) for prompt in missing]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        failed.check()

    async def _read(self, actors: Supervisor, group: list[TrainingSample]) -> list[Prediction]:
        """Return a group's responses as text. A grader decodes them; one that dies is replaced, and the call is repeated."""
        batches: dict[Any, int] = {}
        graded: dict[Any, Any] = {}
        slots = []
        for sample in group:
            slots.append((batches.setdefault(sample.batch, len(batches)), sample.slot))
            graded[sample.batch] = sample.graded
        grader = actors.graders[group[0].prompt % len(actors.graders)]
        while True:
            handle: Any = grader.handle
            try:
                return list(await awaited(handle.predictions.remote(slots, *batches, *graded.values())))
            except ray.exceptions.RayActorError as error:
                await actors.revive(grader, handle, error)
            except ray.exceptions.RayError as error:
                raise RunFailed(actors.account(grader, error)) from error

    async def _entropies(self, actors: Supervisor, label: str, prompts: list[Prompt], found: Predictions) -> None:
        """Compute the true entropy of each prompt's first response, as evaluations in a training run do."""
        learners = LearnerGroup(actors.cfg, actors)
        by_index = {prompt.index: prompt for prompt in prompts}
        missing = self._without_entropy(found)
        for begin in range(0, len(missing), ENTROPIES_AT_ONCE):
            firsts = missing[begin : begin + ENTROPIES_AT_ONCE]
            trajectories = [_trajectory(by_index[one.prompt], one) for one in firsts]
            batch = ray.put(trajectories)
            samples = [
                TrainingSample(one.prompt, slot, len(one.prompt_tokens), len(one.tokens), batch=batch)
                for slot, one in enumerate(trajectories)
            ]
            entropies = await learners.entropies(samples)
            found.set_entropies({one.prompt: entropy for one, entropy in zip(firsts, entropies, strict=True)})
            self.tracker.progress(f"{label}: entropies computed", begin + len(firsts), len(missing))

    def _without_entropy(self, found: Predictions) -> list[Prediction]:
        """Return the first responses without an entropy. A response without tokens needs none."""
        firsts = (found.groups[prompt][0] for prompt in sorted(found.groups)) if self.entropy else ()
        return [one for one in firsts if one.entropy is None and one.token_ids]

    def _end(self, signum: signal.Signals) -> bool:
        """End the evaluation at once; complete groups are in the files already."""
        self.interrupted = self.interrupted or signum
        return False


class Failures:
    """Counts failed gradings, and ends the evaluation if there are too many for a valid measurement."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.total = self.failed = 0
        self.first = ""

    def add(self, group: list[TrainingSample]) -> None:
        errors = [str(sample.error) for sample in group if is_error(sample, self.cfg.reward)]
        self.total += len(group)
        self.failed += len(errors)
        self.first = self.first or (errors[0] if errors else "")
        if self.total >= ENOUGH:
            self.check()

    def check(self) -> None:
        """Raise RunFailed where more than reward.max_error_frac failed."""
        if self.failed > self.cfg.reward.max_error_frac * self.total:
            raise RunFailed(
                f"{self.failed} of {self.total} gradings failed, more than reward.max_error_frac={self.cfg.reward.max_error_frac:g} "
                f"allows. The first: {self.first}\nMend the reward function, and start again with --overwrite."
            )


def _prepare(cfg: Config) -> Dataset:
    """Check the reward function, the model and the held-out data."""
    try:
        return preflight(cfg, load_held_out)
    except BadInput as error:
        named = next((name for name in texts(cfg.data.eval) if str(error).startswith(f"{NOTHING} {name},")), None)
        if named is None:
            raise
        raise BadInput(f"{error}\n{instead_of(named)}") from error


def _for_actors(cfg: Config) -> Config:
    """Switch off what an evaluation does not use. Its engines and learners are never up together, so nothing has to sleep."""
    return replace(
        cfg,
        reward=replace(cfg.reward, overlong_share=None),
        rollout=replace(cfg.rollout, sleep=0),
        learner=replace(cfg.learner, offload="none"),
    )


def _check_room(cfg: Config, resources: Resources, prompts: list[Prompt]) -> None:
    """Check that engines and graders, and later the learners, fit into the cluster. Raises BadInput."""
    images = any(prompt.images for prompt in prompts)
    check_cluster(replace(cfg, learner=replace(cfg.learner, ranks=0)), resources.cpus, resources.gpus, images)
    alone = replace(cfg, rollout=replace(cfg.rollout, engines=0), reward=replace(cfg.reward, workers=0))
    check_cluster(alone, resources.cpus, resources.gpus, images)
    detect(cfg, resources.device)


def _dropped(dataset: Dataset, cfg: Config) -> list[str]:
    if not dataset.dropped_eval:
        return []
    total = len(dataset.eval) + dataset.dropped_eval
    return [f"{dataset.dropped_eval} of {total} prompts are longer than data.max_prompt_tokens={cfg.data.max_prompt_tokens} and left out"]


def _unanswered(prompts: list[Prompt], found: Predictions) -> list[Prompt]:
    return [prompt for prompt in prompts if prompt.index not in found.groups]


def _trajectory(prompt: Prompt, one: Prediction) -> Trajectory:
    tokens = np.array(one.token_ids, np.int32)
    return Trajectory(0, 0, one.prompt, Kind.EVAL, 1.0, prompt.tokens, tokens, np.zeros(len(tokens), np.float32), one.truncated, (0,))


def _how_to_continue(run: EvaluationRun, folder: EvalFolder) -> str:
    name = signal.Signals(run.interrupted).name if run.interrupted else ""
    done = sum(len(found.groups) for _, _, found in run.work)
    total = sum(len(prompts) for _, prompts, _ in run.work)
    command = shlex.join([Path(sys.argv[0]).name if sys.argv[0].endswith("uec") else "uec", *sys.argv[1:]]).replace(" --overwrite", "")
    return f"uec: stopped by {name}; {done} of {total} prompts are answered, in {folder.path}. To go on:\n     {command}"
