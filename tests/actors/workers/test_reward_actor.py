"""RewardActor in a real Ray cluster: tokens in, rewards out, rollout files beside."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uec.config.schema import Config, ModelConfig, RewardConfig
from uec.tracking.rollouts import Page
from uec.types import Kind, Prompt, TrainingSample, Trajectory

pytestmark = pytest.mark.e2e

WORDS = ["<pad>", "<eos>", "the", "answer", "is", "12", "14", "####"]
ID = {word: i for i, word in enumerate(WORDS)}

GRADER = """
import os, time
from uec.rewards.graders import exact

def score(response, answer, do="", **row):
    if do == "hang":
        time.sleep(1000)
    if do == "die":
        os._exit(1)
    return {"accuracy": exact(response, answer), "short": len(response.split()) <= 2}
"""


@pytest.fixture(scope="module")
def cfg(tmp_path_factory: pytest.TempPathFactory) -> Config:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = Tokenizer(models.WordLevel(ID, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token="<eos>", pad_token="<pad>").save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (folder / "model.safetensors").touch()
    (folder / "mine.py").write_text(GRADER)
    reward = RewardConfig(fn=f"{folder}/mine.py:score", weights={"accuracy": 0.8, "short": 0.2}, processes=2, timeout_s=3.0, on_error=0.0)
    return Config(model=ModelConfig(path=str(folder)), reward=reward)


@pytest.fixture(scope="module")
def actor(cfg: Config) -> Iterator[Any]:
    os.environ["RAY_worker_niceness"] = "0"
    import ray

    from actors.workers.reward import RewardActor

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100 << 20)
    try:
        made = ray.remote(RewardActor).options(num_cpus=0.1, max_concurrency=100).remote(cfg, 0)
        ray.get(made.start.remote([prompt(0), prompt(1), prompt(2, do="hang"), prompt(3, do="die")]))
        yield made
    finally:
        ray.shutdown()


def prompt(index: int, **row: Any) -> Prompt:
    return Prompt(index, f"question {index}", np.array([2, 3], np.int32), answer="12" if index != 1 else "14", row=row)


def trajectory(prompt: int, index: int, text: str, truncated: bool = False) -> Trajectory:
    tokens = np.array([ID[word] for word in text.split()], np.int32)
    return Trajectory(
        group=prompt + 40,
        index=index,
        prompt=prompt,
        kind=Kind.REGULAR,
        temperature=1.0,
        prompt_tokens=np.array([2, 3], np.int32),
        tokens=tokens,
        logprobs=np.full(len(tokens), -0.5, np.float32),
        truncated=truncated,
        versions=(5,),
    )


BATCH = [
    trajectory(0, 0, "the answer is 12 <eos>"),
    trajectory(1, 3, "the answer is 12 <eos>"),
    trajectory(1, 1, "#### 14 <eos>"),
    trajectory(0, 2, "14 14 14 14 12", truncated=True),
    trajectory(1, 0, ""),
]


def test_a_response_batch_is_decoded_and_graded_by_each_prompts_answer_and_row(actor: Any) -> None:
    import ray

    samples: list[TrainingSample] = ray.get(actor.grade.remote(ray.put(BATCH)))
    assert [(s.group, s.index, s.slot) for s in samples] == [(40, 0, 0), (41, 3, 1), (41, 1, 2), (40, 2, 3), (41, 0, 4)]
    assert [s.accuracy for s in samples] == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert [s.reward for s in samples] == pytest.approx([0.8, 0.0, 1.0, 0.8, 0.2])
    assert samples[2] == TrainingSample(
        1, 2, 2, 3, kind=Kind.REGULAR, group=41, index=1, reward=1.0, accuracy=1.0, parts={"accuracy": 1.0, "short": 1.0}, version=5
    )
    assert [s.truncated for s in samples] == [False, False, False, True, False]
    assert ray.get(actor.grade.remote([])) == []


def test_a_response_batch_that_hangs_or_kills_its_grader_does_not_hold_up_another_one(actor: Any) -> None:
    import ray

    begin = time.monotonic()
    slow = actor.grade.remote([trajectory(2, 0, "12"), trajectory(0, 0, "12"), trajectory(3, 0, "12")])
    time.sleep(0.2)
    assert [s.accuracy for s in ray.get(actor.grade.remote(BATCH))] == [1.0, 0.0, 1.0, 1.0, 0.0]
    assert time.monotonic() - begin < 3.0, "before the other one was stopped"
    hung, fine, dead = ray.get(slow)
    assert hung.timed_out and hung.reward == 0.0 and fine.accuracy == 1.0
    assert not dead.timed_out and "exit status 1" in dead.error


def test_a_response_to_an_unknown_prompt_is_an_error_that_names_it(actor: Any) -> None:
    import ray

    with pytest.raises(ray.exceptions.RayTaskError, match="prompt 99, which is none of its 4"):
        ray.get(actor.grade.remote([trajectory(99, 0, "12")]))


def test_the_rollout_file_is_written_from_batches_that_never_leave_the_object_store(actor: Any, tmp_path: Path) -> None:
    import ray

    first, second = ray.put(BATCH), ray.put([trajectory(0, 1, "#### 12 <eos>")])
    graded = [actor.grade.remote(first), actor.grade.remote(second)]
    pages = [Page([3], {}), Page([0], {0: 0.7})]
    path = tmp_path / "rollouts" / "step_000003.jsonl"
    ray.get(actor.write_rollouts.remote(str(path), 3, pages, first, second, *graded))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows.sort(key=lambda row: row["kept"])
    assert [row["response"] for row in rows] == ["14 14 14 14 12", "#### 12"]
    assert [row["advantage"] for row in rows] == [None, 0.7]
    assert [row["truncated"] for row in rows] == [True, False]
    assert rows[1]["prompt"] == "question 0" and rows[1]["answer"] == "12" and rows[1]["logprob_mean"] == -0.5
