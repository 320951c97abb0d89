"""The round trip of `uec doctor` with real actors and a few prompts: engines generate, learners update, engines take the new weights.

It proves what a run relies on. The update is made large enough that an engine which kept its old weights would be off by several
times the tolerance; no part of it is kept.
"""

import asyncio
import copy
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from actors.driver.actor_specs import supervise, training_actors
from actors.driver.learner_group import LearnerGroup
from actors.driver.rollouts import RolloutStream
from actors.driver.weight_probe import PROBE_SEQUENCES, probe_sequences
from actors.driver.weight_sync import WeightSync
from actors.programs.preflight import cluster, preflight
from actors.runtime.cluster import Resources, fetch_model
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.config.validate import check_cluster
from uec.data.dataset import Dataset
from uec.data.embedded_images import write_images
from uec.doctor import ray_state
from uec.doctor.check import Check, Status, fail, mib, note, ok
from uec.errors import BadInput, RunFailed
from uec.memory.checkpoints import check_checkpoints
from uec.memory.placement import resolve_placement
from uec.models.logprob_gap import Gap, tolerance
from uec.system.platform import Platform, detect
from uec.tracking.tracker import Tracker
from uec.types import Kind, Logprobs, Prompt, TrainingSample

GROUPS = 8
RESPONSES = 8  # most responses in a group
TOKENS = 64  # most tokens in a response
LEARNING_RATE = 1e-3
UPDATES = 8  # most updates until the policy has moved
CLEARLY = 4.0  # tolerances by which the policy has to move on the probe
PATIENCE_S = 300.0  # longest time after the actors' start
TOKEN_ADVICE = "`ray get-auth-token --generate`, and RAY_AUTH_MODE=token for whatever starts or joins the cluster"


class Listener(Protocol):
    """Receives each check when it is known, and the current activity."""

    def add(self, check: Check) -> None: ...

    def busy(self, text: str) -> None: ...


def examine(cfg: Config, quick: bool, listener: Listener) -> None:
    """Check Ray and, unless `quick`, run the round trip."""
    listener.busy("starting or joining Ray")
    listener.add(found := ray_state.cluster(cfg))
    if found.status is Status.FAIL:
        return
    begin = time.perf_counter()
    with ExitStack() as stack:
        try:
            resources = stack.enter_context(cluster(cfg, f"uec-doctor-{os.getpid()}"))
        except BadInput as error:
            advice = "pass cluster.address=local for a cluster of the run's own; `ray stop` ends what a crash left"
            listener.add(fail("ray", str(error), advice))
            return
        _report_ray(cfg, resources, time.perf_counter() - begin, listener)
        if not quick:
            _round_trip(cfg, resources, listener)


def _report_ray(cfg: Config, resources: Resources, seconds: float, listener: Listener) -> None:
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    size = f"{resources.cpus:g} CPUs, {resources.gpus:g} GPUs"
    if resources.joined:
        found = f"the running cluster at {resources.joined} is joined: {size}"
    else:
        found = f"a local cluster starts in {seconds:.0f} s: {size}"
    if is_token_auth_enabled():
        listener.add(ok("ray", f"{found}; token authentication is on"))
    else:
        listener.add(note("ray", f"{found}; token authentication is off: whoever reaches it runs code on it", TOKEN_ADVICE))
    try:
        chosen = resolve_placement(cfg, resources.gpus, resources.gpu)
        check_cluster(cfg, resources.cpus, resources.gpus, cfg.data.image_key is not None)
        if chosen:
            listener.add(ok("placement", "; ".join(chosen)))
    except BadInput as error:
        listener.add(fail("placement", str(error), "a share may be a fraction, e.g. rollout.cpus=0.5"))


def _round_trip(cfg: Config, resources: Resources, listener: Listener) -> None:
    """Load what a run loads, then start the actors. The logs are kept after a failure."""
    cfg = handful(cfg)
    listener.busy("loading data and tokenizer")
    folder = Path(tempfile.mkdtemp(prefix="uec-doctor-"))
    keep = True
    try:
        platform = detect(cfg, resources.device)
        dataset = write_images(some(_load(cfg, listener)), folder / "images")
        fetch_model(cfg)
        trip = asyncio.run(_with_actors(cfg, platform, dataset.train, folder / "logs", listener))
        keep = not trip
    except BadInput as error:
        listener.add(fail("data", str(error), "the message names the field"))
        keep = False
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def handful(cfg: Config) -> Config:
    """Return the config of the round trip: the same engines and learners, few and short responses, one large update."""
    cfg = copy.deepcopy(cfg)
    rollout, learner = cfg.rollout, cfg.learner
    rollout.n, rollout.max_tokens = min(rollout.n, RESPONSES), min(rollout.max_tokens, TOKENS)
    # With plain sampling, the engine's log-probabilities equal the learner's.
    rollout.temperature, rollout.top_p, rollout.top_k, rollout.min_p = 1.0, 1.0, -1, 0.0
    learner.lr, learner.warmup_steps, learner.optimizer_steps = LEARNING_RATE, 0, 1
    return cfg


def _load(cfg: Config, listener: Listener) -> Dataset:
    dataset = preflight(cfg)
    try:
        check_checkpoints(cfg, Path(cfg.run.dir).resolve())
    except BadInput as error:
        listener.add(fail("disk", str(error), "run.dir=FOLDER names another disk, checkpoint.keep keeps fewer"))
    listener.add(ok("data", f"{len(dataset.train)} prompts to train on, {len(dataset.eval)} held out"))
    return dataset


def some(dataset: Dataset) -> Dataset:
    """Return as many prompts as the probe takes, with and without images if there are both, and only their images' bytes."""
    with_images = [prompt for prompt in dataset.train if prompt.images][:PROBE_SEQUENCES]
    plain = [prompt for prompt in dataset.train if not prompt.images][: PROBE_SEQUENCES + 1]
    names = {name for prompt in with_images for name in prompt.images}
    embedded = {name: content for name, content in dataset.embedded.items() if name in names}
    return replace(dataset, train=[*with_images, *plain], eval=[], embedded=embedded)


async def _with_actors(cfg: Config, platform: Platform, prompts: list[Prompt], logs: Path, listener: Listener) -> bool:
    """Return whether every stage passed."""
    supervisor = supervise(cfg, training_actors(cfg, platform.device), logs, Tracker([]))
    try:
        listener.busy("starting the actors: engines, learners, graders")
        begin = time.perf_counter()
        await supervisor.start(prompts)
        names = ", ".join(slot.name for slot in supervisor.slots)
        listener.add(ok("actors", f"{names} started in {time.perf_counter() - begin:.0f} s"))
        trip = RoundTrip(cfg, platform, supervisor, prompts, listener)
        async with asyncio.timeout(PATIENCE_S):
            return await trip.run()
    except RunFailed as error:
        listener.add(fail("actors", str(error), f"the whole logs: {logs}"))
    except TimeoutError:
        listener.add(fail("round trip", f"not done within {PATIENCE_S:g} s", f"an actor hangs or the machine is overloaded; logs: {logs}"))
    finally:
        await supervisor.stop()
    return False


class RoundTrip:
    """The stages of the round trip, on actors that run already."""

    def __init__(self, cfg: Config, platform: Platform, supervisor: Supervisor, prompts: list[Prompt], listener: Listener) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.prompts = prompts
        self.listener = listener
        self.logs = supervisor.logs
        self.tolerance = tolerance(cfg, platform)
        self.weights = WeightSync(cfg, supervisor, prompts, self.tolerance)
        self.learners = LearnerGroup(cfg, supervisor)
        self.stream = RolloutStream(supervisor)
        self._probe = probe_sequences(prompts, cfg.rollout.max_tokens)

    async def run(self) -> bool:
        """Run the stages and report each, up to the first that fails. Returns whether all passed."""
        stages = (("agreement", self._agree), ("generation", self._generate_and_grade), ("update", self._follow))
        for name, stage in stages:
            self.listener.busy(f"round trip: {name}")
            try:
                good = await stage()
            except RunFailed as error:
                self.listener.add(fail(name, str(error), f"do not train with this; the actors' logs: {self.logs}"))
                return False
            if not good:
                return False
        return True

    async def _agree(self) -> bool:
        """Give the engines the learners' weights, and compare log-probabilities on the same sequences."""
        await self.weights.start()
        found = await self.weights.verify()
        self.listener.add(ok("agreement", f"engines and learner agree on {len(self._probe)} sequences within {found.largest:.1e} nats"))
        return True

    async def _generate_and_grade(self) -> bool:
        self.groups = await self._sample()
        samples = [sample for group in self.groups for sample in group]
        tokens = sum(sample.response_tokens for sample in samples)
        found = f"{len(samples)} responses of {tokens} tokens to {len(self.groups)} prompts, mean reward {_mean_reward(self.groups):.2f}"
        wrong = [sample.error for sample in samples if sample.error is not None]
        if wrong:
            self.listener.add(fail("rewards", f"{len(wrong)} of {len(samples)} gradings failed: {wrong[0]}", "mend reward.fn"))
            return False
        self.listener.add(ok("generation", f"engines generate, graders grade: {found}"))
        return True

    async def _follow(self) -> bool:
        """Update until the policy has clearly moved, sync the weights, and compare again."""
        before = await self._learner_logprobs()
        moved, first = Gap(0.0, 0.0), None
        for number in range(UPDATES):
            samples = [sample.with_advantage(1.0) for group in self.groups for sample in group]
            updated = await self.learners.update(samples, seed=number)
            first = first or updated.metrics
            moved = Gap.of(before, await self._learner_logprobs())
            if moved.mean > CLEARLY * self.tolerance.mean:
                break
        off = (first or {}).get("policy/rollout_logprob_gap_max", float("inf"))
        if not off <= self.tolerance.largest:
            limit = self.tolerance.largest
            disagree = f"the learner's log-probabilities of the responses are off by {off:.3g} nats (tolerance {limit:g})"
            report = f"engine and learner compute different models: please report it, with {self.logs}"
            self.listener.add(fail("logprobs", disagree, report))
            return False
        self.listener.add(ok("logprobs", f"the learner's log-probabilities of the responses are the engines' within {off:.1e} nats"))
        if not CLEARLY * self.tolerance.mean < moved.mean < float("inf"):
            unclear = f"{number + 1} updates moved the policy by {moved.mean:.3g} nats on the probe, too little or too much to tell by"
            self.listener.add(fail("update", unclear, f"the logs: {self.logs}; frozen weights, or a loss that is switched off?"))
            return False
        synced = await self.weights.sync()
        # Raises RunFailed, naming the engine, where one does not follow; so does `publish`, where it compares.
        agreed = synced.gap or await self.weights.verify()
        update = self.supervisor.update
        checksum = f", checksum {update.digest[:12]} at every engine" if update is not None and update.digest else ""
        self.listener.add(ok("update", f"{number + 1} policy update{'s' * (number > 0)} moved the probe by {moved.mean:.2g} nats"))
        size = f"version {self.weights.version} of {mib(synced.nbytes)}{checksum}"
        self.listener.add(ok("weight sync", f"engines follow within {agreed.largest:.1e} nats: {size}"))
        return True

    async def _sample(self) -> list[list[TrainingSample]]:
        prompts = [self.prompts[i % len(self.prompts)].index for i in range(GROUPS)]
        return await asyncio.gather(*(self.stream.sample(index, self.cfg.rollout.n, 1.0, Kind.REGULAR) for index in prompts))

    async def _learner_logprobs(self) -> list[Logprobs]:
        supervisor = self.supervisor
        images = await supervisor.images.references(sequence.prompt for sequence in self._probe)
        answers = await asyncio.gather(*(supervisor.call(rank, "logprobs", self._probe, *images) for rank in supervisor.learners))
        logprobs, _ = answers[0]
        return logprobs


def _mean_reward(groups: list[list[TrainingSample]]) -> float:
    rewards = [sample.reward for group in groups for sample in group]
    return sum(rewards) / len(rewards)
