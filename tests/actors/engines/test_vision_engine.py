"""Engines with images: sampling, log-probabilities and updates of tiny vision-language models agree with plain transformers.

One engine for each family; one has the prefix cache on, one is AsyncLLM, and one has a frozen vision tower.
"""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from transformers import AutoModelForImageTextToText

from actors.weights.shm import ShmPublisher
from actors.workers.rollout import RolloutActor, environment
from tests.support import tiny_vlm
from tests.support.image_prompts import ImagePrompt, make_image_prompts, model_processor, plain_logprobs
from uec.config.file import load_config
from uec.config.schema import ModelConfig
from uec.errors import RunFailed
from uec.models.policy import Policy
from uec.models.policy_model import make_policy_model
from uec.models.vision import vision_tower
from uec.models.vocabulary import vocabulary_size
from uec.types import Continuation, ImageFeatures, Kind, Request, Trajectory, WeightUpdate

pytestmark = pytest.mark.e2e
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test module

GAP = 2e-3
MAX_TOKENS = 40
SIZES = [[(140, 140)], [(140, 56), (57, 90)], [], [(140, 140)], [(60, 80)], [], [(56, 56), (140, 140), (80, 60)]]
"""Of each prompt's images. The first and the fourth have the same tokens in their first blocks of the prefix cache."""

SETTINGS = {
    "qwen2_5_vl": ["rollout.prefix_caching=true"],
    "qwen2_vl": ["rollout.backend=async"],
    "qwen3_vl": ["model.freeze_vision_tower=true"],
    "internvl": [],
    "idefics3": [],
}


class Faulty(RolloutActor):
    """RolloutActor whose engine can be broken on purpose."""

    async def leave_tower_stale(self, stale: bool) -> None:
        """Fault: a weight update does not reach the vision tower."""
        from actors.engines.vllm import shm_receiver

        shm_receiver.kept = kept = getattr(shm_receiver, "kept", shm_receiver.read)
        shm_receiver.read = (lambda *of: [(name, tensor) for name, tensor in kept(*of) if ".visual." not in name]) if stale else kept

    async def keep_encoder_cache(self, keep: bool) -> None:
        """Fault: a weight update does not reset the cache of encoded images."""
        await self._engine._core._call(lambda engine: engine.engine_core.__dict__.pop("reset_encoder_cache", None))
        if keep:
            await self._engine._core._call(lambda engine: setattr(engine.engine_core, "reset_encoder_cache", lambda: None))

    async def read_other_features(self, other: bool) -> None:
        """Fault: vLLM's processor of the family knows none of transformers' names."""

        def change(engine: Any) -> None:
            processor = engine.renderer.get_mm_processor()
            processor.__dict__.pop("_get_mm_fields_config", None)
            if other:
                processor._get_mm_fields_config = lambda features, settings: {}

        await self._engine._core._call(change)


class Learner:
    """Takes the place of the learner: a transformers model that publishes its weights."""

    def __init__(self, folder: Path, frozen: bool) -> None:
        processor = model_processor(folder)
        self.hf = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self.banned, self.vocabulary = processor.vision_tokens(), vocabulary_size(processor.tokenizer)
        self.policy_model = make_policy_model(Policy(self.hf, 256, self.vocabulary), ModelConfig(freeze_vision_tower=frozen))
        self.publisher = ShmPublisher(rank=0)
        self.version = 0

    def learn(self, move: Callable[[str], bool] = lambda name: True) -> WeightUpdate:
        """Change the trained weights whose name passes, and publish all."""
        with torch.no_grad():
            for name, parameter in self.policy_model.trainable():
                if move(name):
                    parameter += 0.02 * torch.randn_like(parameter)
        self.version += 1
        return self.publisher.publish(self.version, self.policy_model.exported())

    def logprobs(self, one: ImagePrompt, tokens: np.ndarray, temperature: float = 1.0) -> np.ndarray:
        with torch.no_grad():
            return plain_logprobs(self.hf, one, tokens, self.banned, self.vocabulary, temperature).numpy()


class Side:
    """An engine, the learner that it follows, and their prompts."""

    def __init__(self, family: str, folder: Path) -> None:
        project = Path(__file__).resolve().parents[3]
        self.folder = tiny_vlm.build(family, folder / "model")
        common = [f"model.path={self.folder}", f"rollout.max_tokens={MAX_TOKENS}", "data.max_prompt_tokens=250", "rollout.kv_cache_mb=32"]
        cfg = load_config(project / "configs/vlm.yaml", [*common, *SETTINGS.get(family, [])])
        options: dict[str, Any] = {"num_cpus": 0.1, "max_concurrency": 100, "runtime_env": {"env_vars": environment(cfg, 0)}}
        self.actor = ray.remote(Faulty).options(**options).remote(cfg, 0)
        self.prompts = make_image_prompts(self.folder, SIZES, folder)
        self.images = {one.prompt.index: one.features for one in self.prompts if one.features is not None}
        started = self.actor.start.remote([one.prompt for one in self.prompts])
        self.learner = Learner(self.folder, frozen=cfg.model.freeze_vision_tower)
        ray.get(started)
        self.groups = itertools.count()

    def request(self, prompt: int, n: int = 4, temperature: float = 1.0) -> Request:
        return Request(next(self.groups), prompt, n, temperature, Kind.REGULAR)

    def features(self, prompts: list[int]) -> list[ImageFeatures]:
        return [self.images[prompt] for prompt in dict.fromkeys(prompts) if prompt in self.images]

    def sample(self, requests: list[Request]) -> list[Trajectory]:
        features = self.features([request.prompt for request in requests])
        batches = self.actor.generate.options(num_returns="streaming").remote(requests, *features)
        return sorted((rollout for batch in batches for rollout in ray.get(batch)), key=lambda one: (one.group, one.index))

    def probe(self, prompt: int) -> float:
        """Return the largest difference of engine and learner on a fixed continuation."""
        [tokens] = [one.prompt.tokens[:12] for one in self.prompts if one.prompt.index == 2]
        sequence = Continuation(prompt, self.prompts[prompt].prompt.tokens, tokens)
        [found] = ray.get(self.actor.logprobs.remote([sequence], *self.features([prompt])))
        assert found.shape == tokens.shape
        return float(np.abs(found - self.learner.logprobs(self.prompts[prompt], tokens)).max())

    def gap(self, rollouts: list[Trajectory]) -> float:
        """Return the largest difference of engine and learner on sampled responses."""
        return max(
            float(np.abs(one.logprobs - self.learner.logprobs(self.prompts[one.prompt], one.tokens, one.temperature)).max())
            for one in rollouts
        )

    def update(self, move: Callable[[str], bool] = lambda name: True) -> None:
        ray.get(self.actor.update_weights.remote(self.learner.learn(move)))

    def close(self) -> None:
        ray.kill(self.actor)
        self.learner.publisher.close()


@pytest.fixture(scope="module")
def sides(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Side]]:
    made: dict[str, Side] = {}

    def get(family: str) -> Side:
        if family not in made:
            made[family] = Side(family, tmp_path_factory.mktemp(family))
        return made[family]

    yield get
    for side in made.values():
        side.close()


@pytest.fixture
def side(sides: Callable[[str], Side], request: pytest.FixtureRequest) -> Side:
    return sides(getattr(request, "param", "qwen2_5_vl"))


def test_responses_come_with_the_prompts_tokens_as_they_were_given(side):
    asked = [side.request(prompt, 3) for prompt in (1, 2, 0, 1, 6)]
    rollouts = side.sample(asked)
    assert [(one.group, one.index) for one in rollouts] == [(request.group, i) for request in asked for i in range(3)]
    for one in rollouts:
        assert one.prompt_tokens.tolist() == side.prompts[one.prompt].prompt.tokens.tolist()
        assert len(one.tokens) == len(one.logprobs) <= MAX_TOKENS


def test_no_vision_token_is_sampled(side):
    rollouts = side.sample([side.request(prompt, 32, 2.0) for prompt in range(len(SIZES))])
    banned = side.learner.banned
    beyond = []
    with torch.no_grad():
        for one in rollouts[::16]:
            text = torch.from_numpy(np.concatenate([side.prompts[2].prompt.tokens, one.tokens])).long()[None]
            beyond.append(float((side.learner.hf(input_ids=text).logits[0, -len(one.tokens) :] / 2).softmax(-1)[:, banned].sum(1).mean()))
    tokens = np.concatenate([one.tokens for one in rollouts])
    assert len(tokens) > 2000 and np.mean(beyond) * len(tokens) > 20  # so many would be there
    assert not np.isin(tokens, banned).any() and tokens.max() < side.learner.vocabulary


def test_images_of_equal_tokens_do_not_share_the_prefix_cache(side):
    first, other = (side.prompts[prompt].prompt.tokens[:32].tolist() for prompt in (0, 3))
    assert first == other  # one block
    assert side.gap([*side.sample([side.request(0, 2)]), *side.sample([side.request(3, 2)])]) < GAP


def test_a_stale_vision_tower_shows_in_a_probe_with_images_and_in_none_of_text(side):
    side.update()
    assert max(map(side.probe, range(len(SIZES)))) < GAP
    ray.get(side.actor.leave_tower_stale.remote(True))
    side.update()
    assert side.probe(2) < GAP and side.probe(5) < GAP
    assert min(side.probe(prompt) for prompt in (0, 1, 6)) > 10 * GAP
    ray.get(side.actor.leave_tower_stale.remote(False))
    side.update()
    assert max(map(side.probe, range(len(SIZES)))) < GAP


def test_an_image_seen_before_an_update_is_encoded_anew_after_it(side):
    def tower(name: str) -> bool:
        return ".visual." in name

    assert side.gap(side.sample([side.request(0), side.request(1)])) < GAP
    side.update(tower)
    assert side.gap(side.sample([side.request(0), side.request(1)])) < GAP
    ray.get(side.actor.keep_encoder_cache.remote(True))
    side.update(tower)
    assert side.gap(side.sample([side.request(0), side.request(1)])) > 10 * GAP  # the image as the old tower encoded it
    ray.get(side.actor.keep_encoder_cache.remote(False))
    side.update(tower)
    assert side.gap(side.sample([side.request(0), side.request(1)])) < GAP


def test_missing_images_are_named_and_the_engine_goes_on(side):
    for features, found in (([], 0), ([dataclasses.replace(side.images[0], prompt=1)], 1)):
        with pytest.raises(RunFailed, match=f"rollout-0: prompt 1 has 2 images, and there are features of {found}"):
            batches = side.actor.generate.options(num_returns="streaming").remote([side.request(2), side.request(1)], *features)
            [ray.get(batch) for batch in batches]
    assert side.gap(side.sample([side.request(1), side.request(2)])) < GAP


def test_unreadable_features_are_refused_with_the_processor_and_the_known_families(side):
    ray.get(side.actor.read_other_features.remote(True))
    with pytest.raises(RunFailed, match=r"Qwen2_5_VLMultiModalProcessor does not read .*\(pixel_values, image_grid_thw\).*known to work"):
        side.sample([side.request(2), side.request(1)])
    ray.get(side.actor.read_other_features.remote(False))
    assert side.gap(side.sample([side.request(1), side.request(2)])) < GAP


SLOW = ("internvl", "idefics3")  # image processors that take seconds to load


@pytest.mark.parametrize("side", [pytest.param(name, marks=pytest.mark.long if name in SLOW else ()) for name in SETTINGS], indirect=True)
def test_engine_logprobs_are_those_of_transformers_before_and_after_an_update(side):
    asked = [(prompt, temperature) for prompt in range(len(SIZES)) for temperature in (1.0, 1.2)]
    before = side.sample([side.request(prompt, 2, temperature) for prompt, temperature in asked])
    assert side.gap(before) < GAP
    side.update()
    after = side.sample([side.request(prompt, 2, temperature) for prompt, temperature in asked])
    assert side.gap(after) < GAP < 0.1 < side.gap(before)
    assert {one.version for one in after} == {side.learner.version}


@pytest.mark.parametrize("side", ["qwen3_vl"], indirect=True)
def test_a_frozen_tower_is_not_part_of_a_weight_update(side):
    update = side.learner.learn()
    tower = {id(parameter) for parameter in vision_tower(side.learner.hf).parameters()}
    frozen = [name for name, parameter in side.learner.hf.named_parameters() if id(parameter) in tower]
    assert frozen and not set(frozen) & set(update.names)
    ray.get(side.actor.update_weights.remote(update))
    assert max(map(side.probe, range(len(SIZES)))) < GAP
    whole = side.learner.publisher.publish(side.learner.version + 1, side.learner.hf.named_parameters())
    with pytest.raises(RunFailed, match="is no parameter of the model"):
        ray.get(side.actor.update_weights.remote(whole))
