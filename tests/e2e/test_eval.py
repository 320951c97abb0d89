"""`uec eval` before any actor starts: settings, layouts, files, metrics; and once with real actors, interrupted and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.support.run_folders import make_run
from uec.commands.cli import main
from uec.config.file import load_config
from uec.config.schema import Config
from uec.errors import BadInput
from uec.eval.benchmarks import LAYOUTS
from uec.eval.estimate import Estimate
from uec.eval.fingerprint import check_unchanged, model_fingerprint, settings_fingerprint
from uec.eval.measures import MetricRow, SubsetMetrics, measure_subsets, measures
from uec.eval.predictions import Prediction, Predictions
from uec.eval.results import Results
from uec.eval.settings import EvalArguments, resolve_candidates
from uec.eval.subsets import by_column, by_difficulty
from uec.eval.target import find_target
from uec.rewards.reward_function import extractor
from uec.types import Prompt


@pytest.fixture
def model(project, monkeypatch) -> str:
    monkeypatch.chdir(project)
    return "assets/countdown"


@pytest.fixture
def run(tmp_path, make_config, project, monkeypatch) -> Path:
    monkeypatch.chdir(project)
    return make_run(tmp_path / "runs" / "first", make_config("run.name=first"), project / "assets/countdown")


def complaint(capsys, *arguments: str) -> str:
    assert main(["eval", *arguments]) == 2
    return capsys.readouterr().err


def resolved(*arguments: object, **more: object) -> Config:
    """Return the first model's settings."""
    return resolve_candidates(EvalArguments(*arguments, **more))[0][0].cfg


def prediction(prompt: int, index: int = 0, accuracy: float = 0.0, **more: object) -> Prediction:
    values = {"response": "r", "answer": "a", "extracted": None, "parts": {"accuracy": accuracy}, "error": None, "tokens": 10}
    return Prediction(prompt=prompt, index=index, accuracy=accuracy, **{"truncated": False, **values, **more})


def answers(*right: int, n: int = 4, **more: object) -> dict[int, list[Prediction]]:
    """Return predictions of prompts with these numbers of right responses out of n."""
    return {p: [prediction(p, i, float(i < r), **more) for i in range(n)] for p, r in enumerate(right)}


# --- which model, which settings


def test_a_run_means_its_newest_checkpoint_and_a_checkpoint_itself(run):
    newest = run / "checkpoints/step_000003"
    assert find_target(str(run)).path == find_target(str(newest)).path == find_target(str(newest / "hf")).path == str(newest / "hf")
    assert find_target(str(run / "checkpoints/step_000002")).label == "first@2"


def test_a_run_is_evaluated_with_the_data_reward_and_sampling_of_its_config(run):
    [candidate], _ = resolve_candidates(EvalArguments([str(run)], []))
    cfg = candidate.cfg
    assert (cfg.data.eval, cfg.reward.fn) == ("assets/countdown/data/eval.jsonl", "countdown")
    assert (cfg.data.chat, cfg.rollout.max_tokens) == (False, 19)
    assert (cfg.eval.n, cfg.eval.k, cfg.eval.temperature, cfg.eval.prompts) == (16, [1, 8, 16], 1.0, 256)


def test_a_plain_model_beside_a_run_is_asked_as_the_run_is(run, model):
    plain, trained = resolve_candidates(EvalArguments([model, str(run)], []))[0]
    assert plain.cfg.data == trained.cfg.data and plain.cfg.reward == trained.cfg.reward
    assert (plain.cfg.model.path, trained.cfg.model.path) == (str(Path(model).resolve()), str(run / "checkpoints/step_000003/hf"))


def test_trust_remote_code_of_one_model_does_not_apply_to_another(tmp_path, make_config, project, model):
    trusted = make_run(tmp_path / "trusted", make_config("model.trust_remote_code=true"), project / "assets/countdown")
    ours, theirs = resolve_candidates(EvalArguments([str(trusted), model], []))[0]
    assert ours.cfg.model.trust_remote_code and not theirs.cfg.model.trust_remote_code


def test_flags_and_settings_win_and_all_rows_of_data_are_taken(run):
    asked = EvalArguments([str(run)], ["rollout.max_tokens=12"], data="other.jsonl", n=4, k=[1, 2], temperature=0.5)
    [candidate], _ = resolve_candidates(asked)
    cfg = candidate.cfg
    assert (cfg.data.eval, cfg.eval.prompts, cfg.rollout.max_tokens) == ("other.jsonl", None, 12)
    assert (cfg.eval.n, cfg.eval.k, cfg.eval.temperature) == (4, [1, 2], 0.5)


def test_a_smaller_n_alone_keeps_the_k_that_fit(run):
    assert resolved([str(run)], [], n=8).eval.k == [1, 8]
    assert resolved([str(run)], [], n=5).eval.k == [1, 5]


@pytest.mark.parametrize("data, source, split", [("gsm8k", "openai/gsm8k:main", "test"), ("gsm8k=my.jsonl", "my.jsonl", "test")])
def test_a_benchmark_by_name_or_by_file_sets_columns_template_and_grader(model, data, source, split):
    cfg = resolved([model], [], data=data)
    assert (cfg.data.eval, cfg.data.eval_split) == (source, split)
    assert (cfg.data.prompt_key, cfg.data.answer_key, cfg.data.answer_regex) == ("question", "answer", r"####\s*(.+)")
    assert cfg.reward.fn == "boxed" and "\\boxed{}" in cfg.data.template
    assert resolved([model], [], data="my.jsonl", layout="gsm8k").data.prompt_key == "question"


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_makes_settings_that_are_valid(model, name):
    cfg = resolved([model], [], data=name)
    assert cfg.data.image_key == ("images" if name == "geometry3k" else None)


def test_a_benchmark_for_a_run_uses_the_runs_template_and_reward(run):
    cfg = resolved([str(run)], [], data="gsm8k=x.jsonl")
    assert (cfg.data.prompt_key, cfg.data.template, cfg.reward.fn) == ("question", None, "countdown")


def test_another_grader_does_not_take_the_runs_reward_weights(tmp_path, make_config, project, monkeypatch):
    monkeypatch.chdir(project)
    cfg = make_config("reward.fn=[countdown, format]", "reward.weights={accuracy: 1.0, format: 0.1}")
    other = make_run(tmp_path / "weighted", cfg, project / "assets/countdown")
    assert resolved([str(other)], ["reward.fn=exact"]).reward.weights == {"accuracy": 1.0}


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "no data: assets/countdown is not a run of `uec train`; give --data FILE, a benchmark (gsm8k, math500"),
        (["--data", "x.jsonl", "--n", "4", "--k", "1,8"], "pass@8 needs as many responses, but eval.n=4"),
        (["--data", "x.jsonl", "--n", "0", "--k", "1"], "eval.n=0 must be at least 1"),
        (["--data", "x.jsonl", "--k", "0,1"], "eval.k[0]=0 must be at least 1"),
        (["--data", "x.jsonl", "--temperature", "0"], "eval.temperature=0.0 must be above 0"),
        (["--data", "x.jsonl", "--layout", "gsm8"], "--layout gsm8 is unknown; there is gsm8k, math500"),
        (["--data", "math500=x.jsonl", "--layout", "gsm8k"], "has the layout math500 already"),
        (["--layout", "gsm8k"], "give --data FILE"),
        (["--data", "nowhere.jsonl", "data.max_prompt_tokens=20", "rollout.max_tokens=20", "data.chat=false"], "there is no file"),
        (["--data", "x.jsonl", "model.path=other"], "takes the model from MODEL"),
        (["assets/countdown", "--data", "x.jsonl"], "is the same model as another one"),
        (["--data", "x.jsonl", "rollout.max_tokenz=3"], "did you mean rollout.max_tokens"),
    ],
)
def test_bad_input_is_named_before_anything_starts(model, arguments, message, capsys):
    assert message in complaint(capsys, model, *arguments)


def test_settings_may_follow_options(model, tmp_path, capsys):
    # The empty file is found last, after everything else was read.
    (tmp_path / "empty.jsonl").write_text("")
    text = complaint(capsys, model, "--data", str(tmp_path / "empty.jsonl"), "data.chat=false", "--n", "2", "rollout.max_tokens=9",
                     "data.max_prompt_tokens=9")  # fmt: skip
    assert "holds no rows" in text


def test_the_error_for_an_unreachable_benchmark_tells_how_to_pass_a_file(model, capsys):
    text = complaint(capsys, model, "--data", "aime25", "data.max_prompt_tokens=20", "rollout.max_tokens=20", "data.chat=false")
    assert "math-ai/aime25" in text and "--data aime25=path/to/file.jsonl" in text


def test_an_unknown_column_is_named_with_the_existing_ones(model, run, capsys, tmp_path):
    assert "--by level: the data has no such column; beside the answer there are kind, numbers, prompt" in complaint(
        capsys, str(run), "--by", "level", "--to", str(tmp_path / "to")
    )
    assert "different values and a table shows 24" in complaint(capsys, str(run), "--by", "prompt", "--to", str(tmp_path / "to"))
    assert not (tmp_path / "to").exists()


def test_a_folder_that_is_not_an_evaluation_is_not_changed(run, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    text = complaint(capsys, str(run), "--to", str(tmp_path / "mine"), "--overwrite")
    assert "is no evaluation's folder" in text and (tmp_path / "mine" / "notes.txt").exists()


# --- answers, predictions, fingerprints


@pytest.mark.parametrize(
    "fn, response, answer, extracted",
    [
        ("boxed", r"so \boxed{1,234}", "1234", "1234"),
        ("boxed", r"so \boxed{\frac{1} {2}}", "0.5", r"\frac{1}{2}"),
        ("boxed", "no box", "3", None),
        ("exact", "6 * 3 = 18\n#### $18.00", "18", "18"),
        ("exact", "The answer is: Paris.", "paris", "paris"),
        ("exact", "nothing at all", "18", None),
    ],
)
def test_the_extracted_answer_of_a_response(fn, response, answer, extracted):
    assert extractor(fn)(response, answer) == extracted
    assert extractor([fn, "format"])(response, answer) == extracted


def test_graders_of_whole_responses_extract_nothing():
    assert extractor("countdown") is extractor(["geometry"]) is extractor("mine.py:score") is None


def test_complete_prompts_survive_a_crash(tmp_path):
    path = tmp_path / "m.jsonl"
    kept = Predictions(path, 2, {})
    kept.add([prediction(7, 0, token_ids=[1, 2]), prediction(7, 1)])
    kept.add([prediction(3, 0), prediction(3, 1, response="a lone surrogate \ud800")])
    whole = path.read_bytes()
    path.write_bytes(whole + prediction(5, 0).line().encode() + b'{"prompt": 5, "ind')
    again = Predictions.read(path, 2)
    assert list(again.groups) == [7, 3] and again.groups[3][1].response == "a lone surrogate \ud800"
    assert path.read_bytes().count(b"\n") == 4
    again.set_entropies({7: 0.5})
    assert Predictions.read(path, 2).groups[7][0].entropy == 0.5
    assert [json.loads(line)["prompt"] for line in path.read_text().splitlines()] == [3, 3, 7, 7]


def test_an_invalid_line_of_predictions_is_named(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(BadInput, match="m.jsonl, line 1: no prediction"):
        Predictions.read(tmp_path / "m.jsonl", 2)


def test_changed_settings_and_weights_are_found_by_name(run, tmp_path):
    cfg = resolved([str(run)], [])
    prompts = [Prompt(0, "t", np.array([1, 2], np.int32), "a", {"kind": "x"})]
    before, model = settings_fingerprint(cfg), model_fingerprint(cfg, prompts)
    check_unchanged(tmp_path, before, settings_fingerprint(resolved([str(run)], [], k=[1])))  # k does not affect predictions
    with pytest.raises(BadInput, match=r"eval\.n: 16 there, 8 now\n.*--overwrite"):
        check_unchanged(tmp_path, before, settings_fingerprint(resolved([str(run)], [], n=8)))
    older = resolved([str(run / "checkpoints/step_000002")], [])
    assert model_fingerprint(older, prompts)["weights"] != model["weights"]
    assert model_fingerprint(cfg, [Prompt(0, "t", np.array([1, 3], np.int32), "a", {"kind": "x"})])["prompts"] != model["prompts"]


def test_a_changed_reward_file_is_another_grader(run, tmp_path):
    reward = tmp_path / "mine.py"
    graders = []
    for body in ("return 0.0", "return 1.0"):
        reward.write_text(f"def score(response, answer, **row):\n    {body}\n")
        graders.append(settings_fingerprint(resolved([str(run)], [f"reward.fn={reward}:score"]))["reward.fn"])
    assert graders[0] != graders[1] and str(tmp_path) not in graders[0][0]


# --- metrics


def test_difficulty_is_the_number_of_right_responses_of_the_first_model():
    assert by_difficulty(answers(0, 1, 2, 3, 4, 0)) == [
        ("none right", [0, 5]),
        ("up to half right", [1, 2]),
        ("more than half right", [3]),
        ("all right", [4]),
    ]


def test_a_column_divides_the_set_in_the_order_of_its_values():
    prompts = [Prompt(i, "", np.zeros(1, np.int32), "", {"level": level}) for i, level in enumerate([10, 2, 2, None])]
    assert by_column(prompts, "level") == [("level 2", [1, 2]), ("level 10", [0]), ("level (none)", [3])]


def test_metrics_equal_values_computed_by_hand():
    first, second = answers(0, 2, 4), answers(1, 2, 4)
    [part] = measure_subsets([first, second], [("all", [0, 1, 2])], measures([first, second], [1, 2], votes=False))
    rows = {row.name: row for row in part.metrics}
    # pass@1: (0 + 1/2 + 1) / 3, and with 1/4 in place of 0. pass@2 of 1 of 4: 1 - C(3,2)/C(4,2) = 1/2; of 2 of 4: 1 - 1/6.
    assert [value.value for value in rows["pass@1"].values] == pytest.approx([1.5 / 3, 1.75 / 3])
    assert [value.value for value in rows["pass@2"].values] == pytest.approx([(5 / 6 + 1) / 3, (1 / 2 + 5 / 6 + 1) / 3])
    assert rows["pass@1"].differences[0] is None
    assert rows["pass@1"].differences[1].value == pytest.approx(0.25 / 3)
    assert set(rows) == {"pass@1", "pass@2", "response length", "truncated"}


def test_entropy_is_a_mean_over_tokens_of_first_responses():
    groups = {0: [prediction(0, 0, entropy=0.2, tokens=10)], 1: [prediction(1, 0, entropy=0.6, tokens=30)]}
    [part] = measure_subsets([groups], [("all", [0, 1])], measures([groups], [1], votes=False))
    assert {row.name: row.values[0].value for row in part.metrics}["entropy"] == pytest.approx(0.5)


def test_a_difference_is_taken_over_the_prompts_that_both_models_have():
    first, second = answers(0, 4), {1: answers(0, 2)[1]}
    [part] = measure_subsets([first, second], [("all", [0, 1])], measures([first, second], [1], votes=False))
    assert part.metrics[0].differences[1].value == pytest.approx(-0.5) and part.metrics[0].values[1].value == 0.5


def test_the_table_has_every_metric_and_no_control_character(tmp_path):
    parts = [SubsetMetrics("all", 3, [MetricRow("pass@1", [Estimate(0.5, 0.4, 0.6), None], [None, Estimate(0.1, -0.05, 0.25)])])]
    results = Results("3 prompts", ["a", "[b]"], parts, ["a note"], {"eval.n": 4})
    console = Console(width=100, no_color=True, force_terminal=False)
    with console.capture() as captured:
        results.show(console)
    text = captured.get()
    assert "0.500 [0.400, 0.600]" in text and "+0.100 [-0.050, +0.250]" in text and "[b]" in text and "\x1b" not in text
    results.write(tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())["parts"][0]["figures"]["pass@1"]
    assert written == {"a": {"value": 0.5, "low": 0.4, "high": 0.6}, "[b]": None}


# --- with real actors


def compare_entropies(model: Path, prompts: Path, groups: dict[int, list[Prediction]]) -> None:
    """Check that each prompt's entropy is that of plain transformers on its first response, and that only that one has an entropy."""
    import torch
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer, hf = PreTrainedTokenizerFast.from_pretrained(model), AutoModelForCausalLM.from_pretrained(model)
    asked = {row["prompt"]: tokenizer(row["text"]).input_ids for row in map(json.loads, prompts.read_text().splitlines())}
    for prompt, (first, *others) in groups.items():
        tokens = tokenizer(first.response, add_special_tokens=False).input_ids + ([] if first.truncated else [tokenizer.eos_token_id])
        tokens = [token for token in tokens if token != tokenizer.bos_token_id]
        assert len(tokens) == first.tokens and all(one.entropy is None for one in others)
        with torch.no_grad():
            logits = hf(torch.tensor([asked[prompt] + tokens])).logits[0, len(asked[prompt]) - 1 : -1, : len(tokenizer)]
        logprobs = logits.log_softmax(-1)
        assert first.entropy == pytest.approx(float(-(logprobs.exp() * logprobs).sum(-1).mean()), abs=1e-3)


@pytest.mark.e2e
def test_two_models_side_by_side_stopped_and_continued(tmp_path, make_config, project):
    """Evaluate the initial model and a run's export: SIGTERM while the second generates, then the same command again."""
    start = project / "assets/countdown"
    cfg = make_config("run.name=first", f"data.train={start}/data/train.jsonl", f"data.eval={start}/data/eval.jsonl")
    run = make_run(tmp_path / "runs" / "first", cfg, start)
    assert main(["export", str(run), "--to", str(tmp_path / "exported")]) == 0
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import time\nfrom uec.tasks.countdown.reward import score as countdown\n\n\n"
        "def score(response, answer, **row):\n    time.sleep(0.04)\n    return countdown(response, answer, **row)\n"
    )
    command = [sys.executable, "-m", "uec.commands.cli", "eval", str(start), str(tmp_path / "exported"), "--config",
               str(run / "config.yaml"), "--n", "4", "--k", "1,4", "--to", "out", f"reward.fn={slow}:score", "eval.prompts=16",
               "--by", "kind"]  # fmt: skip
    def start_it() -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(project)}
        return subprocess.Popen(command, cwd=tmp_path, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    stopped = start_it()
    second = tmp_path / "out/predictions/exported.jsonl"
    deadline = time.monotonic() + 120
    while not second.exists() or not second.stat().st_size:
        assert stopped.poll() is None and time.monotonic() < deadline, stopped.communicate()
        time.sleep(0.02)
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate(timeout=60)
    assert stopped.returncode == 143, errors
    assert "To go on:\n     uec eval" in errors and "prompts are answered" in errors
    before = Predictions.read(second, 4).groups
    first = (tmp_path / "out/predictions/countdown.jsonl").read_text()
    assert 0 < len(before) < 16 and first.count("\n") == 64

    going_on = start_it()
    output, errors = going_on.communicate(timeout=120)
    assert going_on.returncode == 0, errors
    assert "countdown: 16 prompts of 16 answered before" in output and f"exported: {len(before)} prompt" in output
    after = Predictions.read(second, 4).groups
    assert len(after) == 16 and all(
        [one.response for one in after[prompt]] == [one.response for one in group] for prompt, group in before.items()
    )
    assert (tmp_path / "out/predictions/countdown.jsonl").read_text() == first
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    whole = summary["parts"][0]["figures"]
    assert whole["pass@1"]["countdown"]["value"] == pytest.approx(
        np.mean([json.loads(line)["accuracy"] for line in first.splitlines()])
    )
    assert "difference" in whole["pass@4"]["exported"]
    compare_entropies(tmp_path / "exported", tmp_path / "out/prompts.jsonl", after)
    assert sum(part["prompts"] for part in summary["parts"][1:]) == 16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["/nosuch/model"], "/nosuch/model: there is no such folder"),
        (["{run}/checkpoints"], "checkpoints holds checkpoints; give one of them (step_000002, step_000003)"),
        (["{run}/checkpoints/step_000099"], "step_000099: there is no such folder; in {run}/checkpoints there are step_000002, "),
        (["{run}/config.yaml"], "config.yaml is a file; give a run's folder"),
        (["assets/countdown", "--data", "foo=rows.jsonl"], "--data foo=rows.jsonl: foo is no benchmark; there is "),
        (["assets/countdown", "--data", "/nosuch.jsonl", "data.chat=false"], "there is no file /nosuch.jsonl"),
    ],
)
def test_a_missing_model_or_data_file_is_named_first(
    words: list[str], said: str, tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = load_config(project / "configs/llm.yaml", [])
    run = make_run(tmp_path / "run", cfg, project / "assets/countdown")
    monkeypatch.chdir(project)
    assert main(["eval", *(word.replace("{run}", str(run)) for word in words), "--to", str(tmp_path / "to")]) == 2
    assert said.replace("{run}", str(run)) in capsys.readouterr().err


def test_a_short_context_is_shared_between_prompt_and_response(project: Path) -> None:
    asked = EvalArguments([str(project / "assets/countdown")], [], data="rows.jsonl")
    [candidate], said = resolve_candidates(asked)
    assert (candidate.cfg.data.max_prompt_tokens, candidate.cfg.rollout.max_tokens) == (256, 256)
    assert said == ["data.max_prompt_tokens=256 and rollout.max_tokens=256: half of the context of 512 tokens each"]
    given = EvalArguments(asked.models, ["rollout.max_tokens=40"], data="rows.jsonl")
    [candidate], said = resolve_candidates(given)
    assert (candidate.cfg.rollout.max_tokens, said) == (40, [])
