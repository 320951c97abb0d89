"""The learner with images on real DeepSpeed: one and two ranks, ZeRO 0 to 3, against plain torch on a tiny Qwen2.5-VL."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText

from actors.workers.learner import LearnerActor
from tests.support.image_prompts import Family, ImagePrompt, make_image_prompts, plain_logprobs, tower_names
from tests.support.learner_ranks import assert_close, assert_equal, gradients, loading_fails, saved_tensors, weights
from uec.config.file import load_config
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.models.packing import Length, plan
from uec.types import Continuation, ImageFeatures, Kind, Trajectory, UpdatePlan

pytestmark = pytest.mark.e2e

LR, SCALE = 2e-4, 0.1
N = 3  # responses to each prompt
ADVANTAGES = np.random.default_rng(1).normal(size=4 * N).tolist()


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Return a family whose prompts have one image, two, none, and one."""
    return Family("qwen2_5_vl", tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rows(family: Family) -> list[Trajectory]:
    return [
        Trajectory(
            one.prompt, k, one.prompt, Kind.REGULAR, 1.0, one.prompt_tokens, one.tokens, np.zeros(len(one.tokens), np.float32), False, (0,)
        )
        for row in family.rows
        for k, one in enumerate(row)
    ]


@pytest.fixture(scope="module")
def data(family: Family, rows: list[Trajectory]) -> list[Any]:
    """Return the data that `LearnerActor.update` receives beside a plan."""
    return [rows, *family.images.values()]


@pytest.fixture
def cfg(family: Family, project: Path) -> Callable[..., Config]:
    def make(*overrides: str) -> Config:
        settings = [f"model.path={family.folder}", f"learner.lr={LR}", f"learner.vision_lr_scale={SCALE}", "learner.grad_clip=1000"]
        return load_config(project / "configs/llm.yaml", [*settings, *overrides])

    return make


def plans(rows: list[Trajectory], ranks: int = 1, budget: int = 10_000, steps: int = 1, seed: int = 0) -> list[UpdatePlan]:
    """Return each rank's packed plan. Another seed permutes the advantages."""
    advantages = np.random.default_rng(seed).permutation(ADVANTAGES) if seed else ADVANTAGES
    batch = [Length(row.prompt, len(row.prompt_tokens), len(row.tokens)) for row in rows]
    shares = plan(batch, ranks, budget, steps, 0, packed=True)
    return [columns(share, advantages) for share in shares]


def columns(share: UpdatePlan, advantages: np.ndarray | list[float]) -> UpdatePlan:
    numbers = share.responses
    return replace(
        share, places=[(0, i) for i in numbers], advantages=[float(advantages[i]) for i in numbers], right=[False] * len(numbers)
    )


def apart(rows: list[Trajectory], images: dict[int, ImageFeatures]) -> list[UpdatePlan]:
    """Return plans where rank 0 has all prompts with images, and rank 1 those without."""
    tokens, made = sum(len(row.tokens) for row in rows), []
    for with_images in (True, False):
        numbers = [i for i, row in enumerate(rows) if (row.prompt in images) is with_images]
        batch = [list(range(begin, begin + N)) for begin in range(0, len(numbers), N)]
        made.append(columns(UpdatePlan(numbers, [[batch]], [tokens], [len(rows)]), ADVANTAGES))
    return made


class Plain:
    """The same training in plain torch: one sequence at a time, and the vision tower at a separate learning rate or frozen."""

    def __init__(self, family: Family, frozen: bool = False) -> None:
        self.family = family
        self.hf = family.plain_model()
        tower = tower_names(self.hf)
        named = list(self.hf.named_parameters())
        groups = [{"params": [p for name, p in named if name not in tower]}]
        if not frozen:
            groups.append({"params": [p for name, p in named if name in tower], "lr": SCALE * LR})
        self.adamw = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self) -> float:
        """Step by the policy gradient, -A logp averaged over all tokens. Returns the gradient norm."""
        self.adamw.zero_grad()
        logprobs = self.family.plain(self.hf)
        total = sum(-a * values.sum() for values, a in zip(logprobs, ADVANTAGES, strict=True))
        (total / sum(map(len, logprobs))).backward()
        moved = [parameter for group in self.adamw.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.get_total_norm([parameter.grad for parameter in moved])
        self.adamw.step()
        return float(norm)

    def gradients(self) -> dict[str, Tensor]:
        return {name: parameter.grad.flatten() for name, parameter in self.hf.named_parameters()}

    def weights(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self.hf.named_parameters()}


# Scenarios, which run in the processes of `Ranks`.


def trained(learner: LearnerActor, batches: list[list[UpdatePlan]], data: list[Any], folder: str = "") -> SimpleNamespace:
    metrics = [learner.update(shares[learner.rank], *data)[0] for shares in batches]
    if folder:
        learner.save(folder)
    return SimpleNamespace(metrics=metrics, weights=weights(learner), weight_update=learner.publish(3))


def saved_and_continued(learner: LearnerActor, before: Any, after: Any, data: list[Any], folder: str) -> dict[str, Tensor]:
    trained(learner, before, data, folder)
    return trained(learner, after, data).weights


def loaded_and_continued(learner: LearnerActor, after: Any, data: list[Any], folder: str) -> SimpleNamespace:
    learner.load(folder)
    start = weights(learner)
    return SimpleNamespace(start=start, weights=trained(learner, after, data).weights)


def measured(learner: LearnerActor, share: UpdatePlan, sequences: list[Continuation], data: list[Any]) -> tuple[Any, float]:
    features = [item for item in data if isinstance(item, ImageFeatures)]
    return learner.logprobs(sequences, *features), learner.entropy(share, *data)


def exported(learner: LearnerActor, shares: list[UpdatePlan], sequences: list[Continuation], data: list[Any], folder: str) -> Any:
    learner.update(shares[learner.rank], *data)
    learner.save_hf(folder)
    return learner.logprobs(sequences, *data[1:])[0]


def failure(learner: LearnerActor, shares: list[UpdatePlan], data: list[Any]) -> str:
    try:
        learner.update(shares[learner.rank], *data)
    except RunFailed as error:
        return str(error)
    return "trained"


# The first step.


def check_first_step(family: Family, ranks: list[SimpleNamespace], folder: Path) -> None:
    plain = Plain(family)
    start = plain.weights()
    norm = plain.step()
    assert_close(gradients(folder), plain.gradients(), atol=2e-6)
    for ours in ranks:
        assert ours.metrics[0]["policy/grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert ours.metrics[0]["policy/ratio_mean"] == pytest.approx(1, abs=1e-6)
        assert ours.metrics[0]["learner/rows"] == 4 * N
        assert_close(ours.weights, plain.weights(), atol=0.05 * LR)
        moved = {name: float((tensor - start[name]).abs().max()) for name, tensor in ours.weights.items()}
        tower = tower_names(plain.hf)
        assert max(moved[name] for name in tower) == pytest.approx(SCALE * LR, rel=0.01)
        assert max(moved[name] for name in moved.keys() - tower) == pytest.approx(LR, rel=0.01)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_first_step_is_the_plain_policy_gradient_at_two_learning_rates(one, cfg, family, rows, data, tmp_path, stage):
    ours = one.run(trained, cfg(f"learner.zero_stage={stage}"), [plans(rows)], data, str(tmp_path))
    check_first_step(family, ours, tmp_path)


@pytest.mark.parametrize("stage", [1, 3])
def test_the_first_step_is_the_same_where_one_rank_has_text_only(two, cfg, family, rows, data, tmp_path, stage):
    ours = two.run(trained, cfg(f"learner.zero_stage={stage}"), [apart(rows, family.images)], data, str(tmp_path))
    check_first_step(family, ours, tmp_path)
    assert_equal(ours[0].weights, ours[1].weights)


@pytest.mark.parametrize("stage", [1, 3])
def test_the_first_step_is_the_same_in_micro_batches_with_checkpointed_layers(two, cfg, family, rows, data, tmp_path, stage):
    shares = plans(rows, ranks=2, budget=40)
    assert len(shares[0].steps[0]) >= 2
    ours = two.run(trained, cfg(f"learner.zero_stage={stage}", "learner.gradient_checkpointing=true"), [shares], data, str(tmp_path))
    check_first_step(family, ours, tmp_path)


# A frozen tower.


@pytest.mark.parametrize("ranks, stage", [(1, 0), (1, 2), (2, 1), (2, 3)])
def test_a_frozen_tower_does_not_move_and_is_not_published(one, two, cfg, family, rows, data, ranks, stage):
    plain = Plain(family, frozen=True)
    start = plain.weights()
    norms = [plain.step(), plain.step()]
    shares = plans(rows) if ranks == 1 else apart(rows, family.images)
    found = (one if ranks == 1 else two).run(
        trained, cfg(f"learner.zero_stage={stage}", "model.freeze_vision_tower=true"), [shares, shares], data
    )
    tower = tower_names(plain.hf)
    for ours in found:
        assert_equal({name: ours.weights[name] for name in tower}, {name: start[name] for name in tower})
        assert_close(ours.weights, plain.weights(), atol=0.1 * LR)
        assert [metrics["policy/grad_norm"] for metrics in ours.metrics] == pytest.approx(norms, rel=1e-3)
    names = found[0].weight_update.names
    assert set(names) == start.keys() - tower and not any("visual" in name for name in names)


def test_a_tower_that_is_trained_is_published(one, cfg, family, rows, data):
    [ours] = one.run(trained, cfg(), [plans(rows)], data)
    assert set(ours.weight_update.names) == ours.weights.keys() >= tower_names(family.plain_model())


# Checkpoints.


@pytest.mark.parametrize("stage, frozen", [(0, False), (1, False), (2, True), (3, False), (3, True)])
def test_a_resumed_learner_goes_on_bit_for_bit(two, cfg, rows, data, tmp_path, stage, frozen):
    before, after = ([plans(rows, ranks=2, budget=90, seed=seed) for seed in seeds] for seeds in ((0, 1), (2, 3)))
    make = (f"learner.zero_stage={stage}", f"model.freeze_vision_tower={str(frozen).lower()}", "learner.weight_decay=0.1")
    straight = two.run(saved_and_continued, cfg(*make), before, after, data, str(tmp_path))
    assert any(".visual." in name for name in saved_tensors(tmp_path, "exp_avg")) is not frozen
    for ours, theirs in zip(two.run(loaded_and_continued, cfg(*make, "run.seed=9"), after, data, str(tmp_path)), straight, strict=True):
        assert_equal(ours.weights, theirs)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_checkpoint_resumes_on_other_ranks_and_stages(one, two, cfg, rows, data, tmp_path, frozen):
    freezing = f"model.freeze_vision_tower={str(frozen).lower()}"
    before, after = [plans(rows, ranks=2)], [plans(rows, ranks=2, seed=1)]
    straight = two.run(saved_and_continued, cfg("learner.zero_stage=3", freezing), before, after, data, str(tmp_path))[0]
    saved = saved_tensors(tmp_path, "weight")
    for ranks, stage in ((one, 0), (one, 2), (two, 1)):
        shares = [plans(rows, ranks=len(ranks.pools), seed=1)]
        resumed = ranks.run(loaded_and_continued, cfg(f"learner.zero_stage={stage}", freezing), shares, data, str(tmp_path))[0]
        assert_equal({name: resumed.start[name].flatten() for name in saved}, saved)
        assert_close(resumed.weights, straight, atol=0.1 * LR)


def test_a_checkpoint_of_a_frozen_tower_is_refused_where_the_tower_is_trained(one, cfg, rows, data, tmp_path):
    one.run(trained, cfg("model.freeze_vision_tower=true"), [plans(rows)], data, str(tmp_path))
    [said] = one.run(loading_fails, cfg(), str(tmp_path))
    assert said.startswith("BadInput") and ".visual." in said


@pytest.mark.parametrize("stage, frozen", [(1, False), (3, True)])
def test_an_exported_policy_gives_the_same_logprobs_in_plain_transformers(two, cfg, family, rows, data, tmp_path, stage, frozen):
    settings = cfg(f"learner.zero_stage={stage}", f"model.freeze_vision_tower={str(frozen).lower()}", "learner.lr=1e-2")
    sequences = [one for row in family.rows for one in row]
    ours, _ = two.run(exported, settings, plans(rows, ranks=2), sequences, data, str(tmp_path))
    hf = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype=torch.float32)
    again = {one.prompt.index: one for one in make_image_prompts(tmp_path)}  # by the exported AutoProcessor
    before = {one.prompt.index: one for one in family.prompts}
    moved = []
    for one, found in zip(sequences, ours, strict=True):
        assert again[one.prompt].prompt.tokens.tolist() == one.prompt_tokens.tolist()
        np.testing.assert_allclose(found, logprobs(hf, again[one.prompt], one, family), atol=1e-4)
        moved.append(np.abs(found - logprobs(family.plain_model(), before[one.prompt], one, family)).max())
    assert min(moved) > 1e-2  # the update changed the policy
    assert not list(tmp_path.glob("*.bin")) and (tmp_path / "chat_template.jinja").is_file()


def logprobs(hf: Any, one: ImagePrompt, sequence: Continuation, family: Family) -> np.ndarray:
    with torch.no_grad():
        return plain_logprobs(hf, one, sequence.tokens, family.banned, family.vocabulary).numpy()


# Metrics.


def test_logprobs_and_entropy_are_those_of_plain_transformers(one, cfg, family, rows, data):
    sequences = [one for row in family.rows for one in row]
    [share] = plans(rows, budget=90)
    [((logprobs, entropies), mean)] = one.run(measured, cfg(), share, sequences, data)
    for found, expected in zip(logprobs, family.plain(family.plain_model()), strict=True):
        np.testing.assert_allclose(found, expected.detach(), atol=1e-4)
    expected = [plain_entropies(family, one) for one in sequences]
    for found, wanted in zip(entropies, expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert mean == pytest.approx(np.concatenate(expected).mean(), rel=1e-4)


def plain_entropies(family: Family, one: Continuation) -> np.ndarray:
    """Return entropies [T] from the log-probabilities of all tokens that may be sampled, at each position."""
    hf = family.plain_model()
    [found] = [each for each in family.prompts if each.prompt.index == one.prompt]
    inputs = {name: value for name, value in found.plain.items() if name not in ("attention_mask", "input_ids", "mm_token_type_ids")}
    ids = torch.cat([found.plain["input_ids"][0], torch.tensor(one.tokens).long()])[None]
    with torch.no_grad():
        logits = hf(input_ids=ids, mm_token_type_ids=(ids == family.processor.feature_id).int(), **inputs).logits[0]
    allowed = np.setdiff1d(np.arange(family.vocabulary), family.banned)
    p_TV = logits[len(one.prompt_tokens) - 1 : -1, allowed].double().softmax(-1)
    return -(p_TV * p_TV.log()).sum(-1).numpy()


@pytest.mark.parametrize("stage", [1, 3])
def test_the_kl_to_the_initial_model_is_zero_at_first_with_images(two, cfg, family, rows, data, stage):
    shares = apart(rows, family.images)
    ours = two.run(trained, cfg(f"learner.zero_stage={stage}", "loss.kl_coef=1", "model.freeze_vision_tower=true"), [shares] * 2, data)
    for found in ours:
        assert found.metrics[0]["policy/kl"] == pytest.approx(0, abs=1e-9)
        assert found.metrics[1]["policy/kl"] > 1e-7


def test_missing_features_are_named_with_their_prompt(one, cfg, rows, data):
    [said] = one.run(failure, cfg(), plans(rows), data[:-1])
    assert said.startswith("prompt 3 has ") and "features for 0" in said
