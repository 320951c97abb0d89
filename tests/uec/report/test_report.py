"""The data that `uec report` reads, and the page that it writes."""

import fcntl
import html
import json
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support.report_runs import HOSTILE, make_report_run, response, write_rows
from uec.commands.cli import main
from uec.errors import BadInput
from uec.report.charts import LAYOUT, sections
from uec.report.comparison import differences, from_defaults, group_runs
from uec.report.curves import MOST_POINTS, band, curves
from uec.report.page import MARK
from uec.report.rollouts import preferred, read_rollouts, spread
from uec.report.run_data import find_runs, labels, read_runs
from uec.tracking.metrics import METRICS, describe


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_report_run(tmp_path / "a")


def data_of(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


# --- curves


def test_tokens_and_seconds_are_sums_over_the_steps() -> None:
    rows = [{"step": 0, "eval/pass@1": 0.5}]
    rows += [{"step": 1, "rollout/tokens": 10, "time/step_s": 2}, {"step": 2, "rollout/tokens": 5, "time/step_s": 3}]
    found = curves(rows)
    assert found.x["step"].tolist() == [0, 1, 2]
    assert found.x["tokens"].tolist() == [0, 10, 15]
    assert found.x["seconds"].tolist() == [0, 2, 5]
    assert found.y["eval/pass@1"][0] == 0.5
    assert np.isnan(found.y["eval/pass@1"][1:]).all()


def test_a_long_run_is_thinned_to_means_over_portions_of_steps() -> None:
    rows = [{"step": step, "policy/loss": float(step)} for step in range(1, 2 * MOST_POINTS + 2)]  # portions of three
    found = curves(rows)
    assert found.steps_a_point == 3
    assert found.x["step"][:2].tolist() == [3, 6]
    assert found.y["policy/loss"][:2].tolist() == [2.0, 5.0]
    assert found.x["step"][-1] == 2 * MOST_POINTS + 1


def test_a_band_is_mean_and_range_where_all_seeds_have_values() -> None:
    one = (np.array([0.0, 2.0, 4.0]), np.array([0.0, 2.0, 4.0]))
    other = (np.array([1.0, 3.0]), np.array([5.0, 7.0]))
    found = band([one, other])
    assert found is not None
    assert found.x.tolist() == [1, 2, 3]
    assert found.mean.tolist() == [3, 4, 5]  # of 1 and 5, 2 and 6, 3 and 7
    assert found.low.tolist() == [1, 2, 3]
    assert found.high.tolist() == [5, 6, 7]


def test_seeds_without_a_common_range_have_no_band() -> None:
    assert band([(np.array([0.0, 1.0]), np.ones(2)), (np.array([2.0, 3.0]), np.ones(2))]) is None
    assert band([(np.array([0.0]), np.array([np.nan])), (np.array([0.0]), np.ones(1))]) is None


def test_every_chart_shows_listed_metrics() -> None:
    known = [metric.key for metric in METRICS]
    assert [key for charts in LAYOUT.values() for _, keys in charts for key in keys if key not in known and describe(key) is None] == []


def test_each_metric_is_in_one_chart_and_unknown_ones_come_last() -> None:
    found = sections({"eval/pass@1", "eval/pass@16", "eval/pass@8", "eval/pass@1_low", "entropy/regular", "my/own"})
    charts = [chart for section in found for chart in section.charts]
    passes = ["pass@1, held out", "pass@8, held out", "pass@16, held out"]
    assert [chart.title for chart in charts] == [*passes, "Entropy by kind of response", "my/own"]
    assert "entropy/replay" in found[1].missing


# --- several runs


def test_runs_that_differ_only_in_seed_and_name_form_a_group(tmp_path: Path) -> None:
    made = [make_report_run(tmp_path / name, *other, seed=seed, rollouts=False) for name, seed, other in (
        ("u0", 0, ()), ("g", 0, ("algorithm=grpo",)), ("u1", 1, ()))]  # fmt: skip
    found = group_runs(read_runs(made))
    assert [(group.label, group.runs) for group in found] == [("uec, seeds 0, 1", [0, 2]), ("g", [1])]


def test_differences_name_the_field_with_each_runs_value(tmp_path: Path) -> None:
    runs = read_runs([make_report_run(tmp_path / "a"), make_report_run(tmp_path / "b", "rollout.n=4", seed=3)])
    assert [(one.key, one.values) for one in differences(runs)] == [("run.seed", ["0", "3"]), ("rollout.n", ["8", "4"])]
    assert {one.key: one.default for one in from_defaults(runs)}["learner.lr"] == "1.0e-06"


def test_runs_of_the_same_name_are_distinguished_by_the_parent_folder() -> None:
    assert labels([Path("/x/one/a"), Path("/x/two/a"), Path("/x/b")]) == ["one/a", "two/a", "b"]


# --- rollouts


def test_a_prompts_exploration_is_grouped_with_its_regular_responses(run: Path) -> None:
    groups = read_rollouts(run, 100)["groups"]
    hard = next(group for group in groups if group["difficult"])
    assert [one["kind"] for one in hard["responses"]] == ["regular", "regular", "exploration", "exploration"]
    assert [one["replayed"] for one in hard["responses"]] == [[], [], [], [4, 5]]
    assert [group["step"] for group in groups] == [1, 1, 1, 1, 1, 2]


def test_images_are_scaled_down_and_a_missing_one_is_none(run: Path) -> None:
    found = read_rollouts(run, 100)
    assert found["groups"][3]["images"] == [0, 1]
    assert found["images"][0].startswith("data:image/png;base64,")
    assert found["images"][1] is None


def test_steps_are_spread_over_the_run_with_the_first_and_the_last() -> None:
    files = [Path(str(i)) for i in range(10)]
    assert [int(file.name) for file in spread(files, 4)] == [0, 3, 6, 9]
    assert [int(file.name) for file in spread(files, 1)] == [9]
    assert spread(files, 0) == []


def test_half_of_the_prompts_are_difficult_if_there_are_enough() -> None:
    groups = [[response(1, i, 0, difficult=i in (5, 6, 7), replayed=[2] if i == 4 else [])] for i in range(10)]
    assert [rows[0]["group"] for rows in preferred(groups, 4)] == [0, 1, 5, 6]
    assert [rows[0]["group"] for rows in preferred(groups, 8)] == [0, 1, 2, 3, 4, 5, 6, 7]


# --- the page


def test_one_runs_page_is_in_its_folder_and_loads_nothing(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(run)]) == 0
    page = run / "report.html"
    assert str(page) in capsys.readouterr().out
    text = html.unescape(page.read_text())
    assert "default-src 'none'" in text
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:)""", re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL))
    assert "@import" not in text
    assert "url(" not in text


def test_several_runs_page_is_in_their_parent_folder_and_is_replaced(tmp_path: Path) -> None:
    runs = [str(make_report_run(tmp_path / "runs" / name, seed=i)) for i, name in enumerate("ab")]
    assert main(["report", *runs]) == 0
    assert main(["report", *runs, "--groups", "1"]) == 0
    data = data_of(tmp_path / "runs/report.html")
    assert data["groups"] == ["uec, seeds 0, 1"]
    found = data["lines"][0]["bands"]["tokens"]["eval/pass@1"]
    assert found == {"x": [0, 6000], "y": [0.25, 0.505], "low": [0.25, 0.5], "high": [0.25, 0.51]}
    assert [len(run["groups"]) for run in data["runs"]] == [1, 1]


def test_without_a_run_the_newest_one_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report"]) == 2
    assert "there is no run in runs" in capsys.readouterr().err
    make_report_run(tmp_path / "runs/old")
    time.sleep(0.02)
    make_report_run(tmp_path / "runs/new")
    assert main(["report"]) == 0
    assert (tmp_path / "runs/new/report.html").is_file()


def test_a_models_output_cannot_end_the_pages_data(run: Path) -> None:
    main(["report", str(run)])
    text = (run / "report.html").read_text()
    assert HOSTILE not in text
    assert data_of(run / "report.html")["runs"][0]["groups"][0]["responses"][1]["response"] == HOSTILE


def test_a_lone_surrogate_and_nan_do_not_stop_the_page(run: Path) -> None:
    write_rows(run / "rollouts/step_000003.jsonl", [response(3, 0, 0, response="\ud83d", token_ends=[1, 1, 1], reward=None)])
    assert main(["report", str(run)]) == 0
    assert data_of(run / "report.html")["runs"][0]["groups"][-1]["responses"][0]["response"] == "\ud83d"


def test_nan_and_null_values_are_shown_as_none(run: Path) -> None:
    nan = float("nan")
    row = response(3, 0, 0, reward=nan, logprob_mean=nan, images=None, parts=None, logprobs=[nan, -1.0], token_ends=[1, 2], response="ab")
    write_rows(run / "rollouts/step_000003.jsonl", [row])
    assert main(["report", str(run)]) == 0
    shown = data_of(run / "report.html")["runs"][0]["groups"][-1]["responses"][0]
    assert (shown["reward"], shown["logprob_mean"], shown["parts"], shown["logprobs"]) == (None, None, {}, [None, -1.0])


def test_a_response_is_right_from_the_accuracy_of_solved_at(run: Path) -> None:
    (run / "config.yaml").write_text((run / "config.yaml").read_text() + "difficulty:\n  solved_at: 0.5\n")
    assert main(["report", str(run)]) == 0
    assert data_of(run / "report.html")["runs"][0]["solved_at"] == 0.5


def test_a_run_that_has_just_begun_has_a_page(run: Path) -> None:
    (run / "metrics.jsonl").unlink()
    (run / "events.jsonl").unlink()
    assert main(["report", str(run), "--groups", "0"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "nowhere does not exist; give the folder of a run"),
        (["{run}", "{run}"], "is given twice"),
        (["{run}/config.yaml"], "is a file; give the folder of a run"),
        (["{run}/.."], "did you mean one of those in it: a?"),
        (["{run}", "--groups", "-1"], "--groups -1: expected 0 or more"),
        (["{run}", "--every", "0"], "--every 0: expected seconds from 0.5 to 3600"),
        (["{run}", "--to", "{run}"], "is a folder; give a file"),
        (["{run}", "--to", "{run}/x/y.html"], "x does not exist; make it"),
        (["{run}", "--to", "{run}/config.yaml"], "a file that is no report exists there"),
    ],
)
def test_bad_input_is_named(words: list[str], said: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    before = (run / "config.yaml").read_bytes()
    assert main(["report", *(word.replace("{run}", str(run)) for word in words)]) == 2
    assert said in capsys.readouterr().err
    assert (run / "config.yaml").read_bytes() == before


def broken(**changes: object) -> str:
    return json.dumps(response(1, 0, 0, **changes)) + "\n"


@pytest.mark.parametrize(
    ("file", "line", "said"),
    [
        ("metrics.jsonl", '{"step": 1, "policy/loss": "high"}\n', "line 1: policy/loss is 'high', expected a number"),
        ("metrics.jsonl", '{"step": 2}\n{"step": 2}\n', "line 2: step 2 comes after step 2"),
        ("metrics.jsonl", '{"step": 1\n{"step": 2}\n', "line 1: not JSON"),
        ("events.jsonl", '{"time": 0, "step": 0}\n', "line 1: event is missing"),
        ("rollouts/step_000001.jsonl", "[]\n", "line 1: expected an object"),
        ("rollouts/step_000001.jsonl", broken(response=None), "line 1: response is 'None', expected a text"),
        ("rollouts/step_000001.jsonl", broken(reward="x"), "line 1: reward is 'x', expected a number or null"),
        ("rollouts/step_000001.jsonl", broken(parts={"accuracy": "x"}), "line 1: parts.accuracy is 'x', expected a number or null"),
        ("rollouts/step_000001.jsonl", broken(logprobs="x"), "line 1: logprobs is 'x', expected a list or null"),
        ("events.jsonl", '{"time": 0, "step": NaN, "event": "x"}\n', "line 1: time and step are expected to be numbers"),
        ("config.yaml", "[]\n", "config.yaml holds no settings"),
    ],
)
def test_a_damaged_line_is_named(file: str, line: str, said: str, run: Path, capsys: pytest.CaptureFixture) -> None:
    (run / file).write_text(line)
    assert main(["report", str(run)]) == 2
    assert said in capsys.readouterr().err


def test_an_incomplete_last_line_is_left_out(run: Path) -> None:
    for file in ("metrics.jsonl", "events.jsonl"):
        with (run / file).open("a") as out:
            out.write('{"step": 7')
    assert [int(row["step"]) for row in read_runs([run])[0].rows] == list(range(7))


def test_watching_ends_with_the_run_and_the_last_page_does_not_reload(run: Path, capsys: pytest.CaptureFixture) -> None:
    page, seen = run / "report.html", []
    with (run / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        def train() -> None:
            while not page.exists():
                time.sleep(0.05)
            seen.append(page.read_text())
            with (run / "metrics.jsonl").open("a") as out:
                out.write('{"step": 7}\n')
            fcntl.flock(lock, fcntl.LOCK_UN)

        training = threading.Thread(target=train)
        training.start()
        assert main(["report", str(run), "--watch", "--every", "0.5"]) == 0
        training.join()
    assert 'data-reload="0.5"' in seen[0]
    assert ">active<" in seen[0]
    assert "data-reload=" not in page.read_text().split("<header>")[0].split("</style>")[1]
    assert data_of(page)["lines"][0]["x"]["step"][-1] == 7


def test_watching_a_finished_run_writes_one_page(run: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["report", str(run), "--watch"]) == 0
    assert "no run is active: written once" in capsys.readouterr().out
    assert (run / "report.html").read_text().startswith(MARK)


def test_a_folder_that_no_run_wrote_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("algorithm: uec\n")
    with pytest.raises(BadInput, match="was not written by a run"):
        read_runs(find_runs([str(tmp_path)]))
