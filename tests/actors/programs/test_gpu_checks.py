"""The checks of `uec doctor --gpu` on a CPU: their order, limits and faults, and once the whole sequence with real actors."""

import asyncio
import json
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from actors.programs.gpu import sequence
from actors.programs.gpu.checks import Step
from actors.programs.gpu.measured import compare_rows
from actors.programs.gpu.rig import QWEN, WORDS, Rig
from actors.programs.gpu.sequence import check_gpu, run_steps
from tests.support.gpu_stand_in import KV_CACHE, TINY, WEIGHTS, cpu_rig
from tests.support.heard import Heard
from uec.doctor import verdicts
from uec.doctor.check import Check, Status, ok
from uec.doctor.gpu import Measured
from uec.errors import RunFailed
from uec.models.attention import Blocks
from uec.models.policy import Policy
from uec.models.rows import Layout
from uec.types import Continuation


@dataclass
class Closes:
    """Counts how often the actors were ended."""

    closed: int = 0

    async def close(self) -> None:
        self.closed += 1


def run(steps: list[Step], gpus: int = 1, seconds: float = 60.0) -> tuple[list[Measured], int]:
    lines: list[Measured] = []
    stage = Closes()
    deadline = time.monotonic() + seconds
    asyncio.run(run_steps(steps, gpus, stage, deadline, Path("logs"), Heard(), lines.append))
    return lines, stage.closed


async def good() -> list[Measured]:
    return [Measured(ok("good", "fine"), {"x": 1.0})]


async def broken() -> list[Measured]:
    raise RunFailed("rollout-0 failed: CUDA out of memory")


async def unforeseen() -> list[Measured]:
    raise KeyError("x")


async def hanging() -> list[Measured]:
    await asyncio.sleep(3600)
    return []


# --- the sequence


def test_a_check_that_fails_is_red_with_its_lines_and_the_others_still_run() -> None:
    steps = [Step(("bad", "worse"), 9, 1, broken), Step(("odd",), 9, 1, unforeseen), Step(("good",), 9, 1, good)]
    lines, closed = run(steps)
    assert [(line.check.name, line.check.status) for line in lines] == [
        ("bad", Status.FAIL), ("worse", Status.FAIL), ("odd", Status.FAIL), ("good", Status.OK)
    ]  # fmt: skip
    assert lines[0].check.found == "rollout-0 failed: CUDA out of memory"
    assert lines[1].check.found == "did not run: bad failed"
    assert "KeyError: 'x'" in lines[2].check.found
    assert closed == 3  # after each red check, and at the end


def test_a_check_has_a_time_limit_and_all_together_have_one() -> None:
    lines, _ = run([Step(("late",), 0.05, 1, hanging), Step(("good",), 9, 1, good)])
    assert [line.check.status for line in lines] == [Status.FAIL, Status.OK]
    assert lines[0].check.found.startswith("did not finish within") and lines[0].seconds > 0
    lines, _ = run([Step(("late",), 9, 1, hanging), Step(("never",), 9, 1, good)], seconds=0.05)
    assert [line.check.status for line in lines] == [Status.FAIL, Status.FAIL]
    assert lines[1].check.found == "did not run: the checks before it took all the time"


def test_a_check_of_two_gpus_is_skipped_with_one_and_runs_with_two() -> None:
    steps = [Step(("nccl",), 9, 2, good)]
    assert [line.check for line in run(steps)[0]] == [Check("nccl", Status.SKIP, "needs 2 GPUs, this machine has 1")]
    assert run(steps, gpus=2)[0][0].check.status is Status.OK


def test_a_machine_without_a_gpu_is_refused_before_a_folder_or_an_actor(monkeypatch) -> None:
    from uec.errors import BadInput

    monkeypatch.setattr(sequence.tempfile, "mkdtemp", lambda **_: pytest.fail("a folder was made"))
    with pytest.raises(BadInput, match="needs a GPU"):
        check_gpu(Heard(), None)


# --- the rig


def test_the_gpu_rig_has_the_shape_of_qwen2_5_0_5b(project: Path) -> None:
    config = json.loads((project / "tests/data/models/Qwen2.5-0.5B-Instruct.json").read_text())
    theta = config.pop("rope_theta", None) or config["rope_parameters"]["rope_theta"]
    assert {name: config[name] for name in QWEN if name != "rope_parameters"} == {n: v for n, v in QWEN.items() if n != "rope_parameters"}
    assert QWEN["rope_parameters"]["rope_theta"] == theta and WORDS < QWEN["vocab_size"]


def test_the_gpu_rigs_settings_are_valid_and_give_engine_and_learner_one_gpu(tmp_path: Path) -> None:
    rig = Rig(gpus=1, device_bytes=80 << 30)
    for more in ((), ("rollout.sleep=1",), ("cluster.placement=separate", "rollout.tensor_parallel=2"),
                 ("learner.zero_stage=3", "learner.ranks=2", "rollout.engines=2")):  # fmt: skip
        cfg = rig.config(tmp_path, *more)
        assert cfg.model.dtype == "bfloat16" and cfg.cluster.address == "local"
    assert rig.config(tmp_path).cluster.placement == "colocated"


def test_the_model_on_the_spot_loads_and_its_tokenizer_reads_the_prompts(tmp_path: Path) -> None:
    from actors.programs.preflight import preflight

    rig = cpu_rig()
    rig.make_model(tmp_path)
    dataset = preflight(rig.config(tmp_path))
    lengths = [len(prompt.tokens) for prompt in dataset.train]
    assert len(lengths) == rig.prompts and min(lengths) >= 5 and max(lengths) <= 20
    assert all(3 <= token < 100 for prompt in dataset.train for token in prompt.tokens)  # no unknown word
    made = rig.made_up(dataset.train)
    assert len(made) == rig.groups * rig.responses and made[0].tokens.tolist() == rig.made_up(dataset.train)[0].tokens.tolist()


# --- attention


def policies() -> tuple[Policy, Policy]:
    """Return one policy in bfloat16, and the same in float32."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    half = Qwen2ForCausalLM(Qwen2Config(**TINY)).to(torch.bfloat16)
    full = Qwen2ForCausalLM(half.config)
    full.load_state_dict(half.state_dict())
    return Policy(half, 16, 100), Policy(full.float(), 16, 100)


def responses() -> list[Continuation]:
    import numpy as np

    rng = np.random.default_rng(0)
    prompts = [rng.integers(3, 100, size).astype(np.int32) for size in (20, 35)]
    return [Continuation(i % 2, prompts[i % 2], rng.integers(3, 100, 10 + i).astype(np.int32)) for i in (0, 2, 4, 1, 3, 5)]


def test_packed_rows_are_as_near_to_float32_as_padded_rows() -> None:
    half, full = policies()
    numbers = compare_rows(half, full, Layout(torch.device("cpu"), packed=True), responses())
    assert 0 < numbers["gradient_error_padded"] < 0.1
    assert verdicts.attention("blocks rows", "blocks", numbers).status is Status.OK
    # loss of plain transformers, each response alone
    plain = []
    for one in responses():
        ids = torch.tensor([[*one.prompt_tokens.tolist(), *one.tokens.tolist()]])
        logits = full.hf(input_ids=ids).logits[0, len(one.prompt_tokens) - 1 : -1, :100]
        plain.append(-logits.log_softmax(-1).gather(1, ids[0, len(one.prompt_tokens) :, None]))
    assert numbers["loss_float32"] == pytest.approx(torch.cat(plain).mean().item(), rel=1e-4)


def test_injected_a_kernel_that_hides_the_prompt_from_responses_is_red(monkeypatch) -> None:
    of = Blocks.of

    def prompts_hidden(begin_S, size_S, prompt_S, device):
        import numpy as np

        return of(begin_S, size_S, np.arange(len(prompt_S)), device)  # each piece attends to itself alone

    monkeypatch.setattr(Blocks, "of", prompts_hidden)
    half, full = policies()
    numbers = compare_rows(half, full, Layout(torch.device("cpu"), packed=True), responses())
    assert verdicts.attention("blocks rows", "blocks", numbers).status is Status.FAIL


# --- with real actors


@pytest.mark.long
@pytest.mark.e2e
def test_the_whole_sequence_runs_with_real_actors_and_a_stand_in_for_the_gpu(tmp_path: Path, project: Path, monkeypatch) -> None:
    monkeypatch.chdir(project)
    heard, file = Heard(), tmp_path / "gpu.json"
    assert check_gpu(heard, file, cpu_rig()), heard.checks
    names = ["blocks rows", "packed rows", "tokens/s", "weight sync", "probe gaps", "peak memory", "sleep"]
    names += ["nccl", "tensor split", "zero-3"]
    assert [(check.name, check.status) for check in heard.checks] == [(name, Status.OK) for name in names]
    found = json.loads(file.read_text())
    numbers = {line["name"]: line["numbers"] for line in found["checks"]}
    assert found["passed"] and list(numbers) == names and found["devices"] == []
    assert numbers["weight sync"]["versions"] == 6 and numbers["weight sync"]["publish_s"] > 0 and numbers["weight sync"]["take_s"] > 0
    assert numbers["probe gaps"]["engine_moved"] == pytest.approx(numbers["probe gaps"]["learner_moved"], rel=0.01)
    assert numbers["sleep"]["awake_bytes"] - numbers["sleep"]["asleep_bytes"] == pytest.approx(WEIGHTS + KV_CACHE, rel=1e-4)
    assert str(tmp_path) not in file.read_text()
