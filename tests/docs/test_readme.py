"""The statements of README.md are true, and it stays short."""

import re
from pathlib import Path

import pytest

from uec.config.file import load_config
from uec.config.validate import validate
from uec.tracking.metrics import METRICS


@pytest.fixture
def readme(project: Path) -> str:
    return (project / "README.md").read_text()


def test_it_is_short_and_its_first_screen_shows_what_a_newcomer_needs(readme: str) -> None:
    lines = readme.splitlines()
    assert len(lines) < 200 and max(map(len, lines)) <= 160
    places = [readme.index(part) for part in ("docs/images/entropy.svg", "make train-llm ", "make train-vlm ", "┌─ Rollouts", "# my.yaml")]
    assert places == sorted(places) and readme[: places[-1]].count("\n") < 35


def test_the_commands_that_train_and_test_precede_line_40(readme: str) -> None:
    lines = readme.splitlines()[:40]
    assert any(line.startswith("make train-llm") for line in lines) and any("`make test`" in line for line in lines)


def test_the_three_boxes_are_aligned(readme: str) -> None:
    [diagram] = re.findall(r"```\n(┌─ Rollouts.*?)```", readme, re.DOTALL)
    boxes = diagram.splitlines()[:6]
    assert len({len(line) for line in boxes}) == 1
    edges = [place for place, mark in enumerate(boxes[0]) if mark in "┌┐"]
    assert len(edges) == 6 and all(line[edge] in "┌┐│└┘" for line in boxes for edge in edges)


def test_the_metrics_are_on_their_page_only(readme: str) -> None:
    assert "(docs/metrics.md)" in readme
    assert [metric.key for metric in METRICS if "/" in metric.key and f"| `{metric.key}` |" in readme] == []


def test_the_example_config_and_reward_work(readme: str, tmp_path: Path) -> None:
    blocks = dict(re.findall(r"```(yaml|python)\n(.*?)```", readme, re.DOTALL))
    assert sum(body.count("\n") for body in blocks.values()) <= 10
    (tmp_path / "my.yaml").write_text(blocks["yaml"])
    validate(load_config(tmp_path / "my.yaml", ["rollout.temperature=0.9", "exploration.n=32", "run.name=first"]))
    names: dict[str, object] = {}
    exec(blocks["python"], names)  # the README's code
    assert names["score"]("so \\boxed{7} or 7", "7") == {"accuracy": 1.0, "format": 1.0}  # type: ignore[operator]


def test_every_file_and_target_that_it_names_exists(readme: str, project: Path) -> None:
    for target in re.findall(r"(?:^|`)make ([a-z][a-z0-9-]+)", readme, re.MULTILINE):
        assert re.search(rf"^{target}:", (project / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (project / path).exists(), path
    for path in re.findall(r"\b(?:configs|actors|uec|docs)/[\w/]+\.(?:py|yaml|md)\b", readme):
        assert (project / path).exists(), path
