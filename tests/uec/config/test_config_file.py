"""Reading configs: precedence of the sources, and the message of each mistake."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uec.config.file import config_text, load_config
from uec.config.schema import Config
from uec.errors import BadInput
from uec.run_folder import save_config

REQUIRED = "model: {path: m}\ndata: {train: t.jsonl}\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def message_of(path: Path | str, *overrides: str) -> str:
    with pytest.raises(BadInput) as caught:
        load_config(path, list(overrides))
    return str(caught.value)


@pytest.fixture
def minimal(tmp_path: Path) -> Path:
    return write(tmp_path, "run.yaml", REQUIRED)


# --- precedence


def test_unset_fields_have_their_defaults(minimal: Path) -> None:
    cfg = load_config(minimal, [])
    assert cfg.rollout == Config().rollout
    assert cfg.model.path == "m"


def test_each_layer_wins_over_the_one_below(tmp_path: Path) -> None:
    write(tmp_path, "algorithm/low.yaml", "loss: {dual_clip: 11, kl_coef: 1, clip_low: 0.1, clip_high: 1, is_cap: 1}\n")
    write(tmp_path, "parent.yaml", REQUIRED + "algorithm: low\nloss: {kl_coef: 2, clip_low: 0.2, clip_high: 2, is_cap: 2}\n")
    child = write(tmp_path, "child.yaml", "extends: parent.yaml\nloss: {clip_low: 0.3, clip_high: 3, is_cap: 3}\n")
    write(tmp_path, "algorithm/high.yaml", "loss: {clip_high: 4, is_cap: 4}\n")
    cfg = load_config(child, ["loss.is_cap=5", "algorithm=high", "loss.is_cap=6"])
    loss = cfg.loss
    assert (loss.dual_clip, loss.kl_coef, loss.clip_low, loss.clip_high, loss.is_cap) == (11, 2, 0.3, 4, 6)
    assert loss.cov_share == Config().loss.cov_share


def test_a_preset_beside_the_config_is_found_from_a_saved_config_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, "mine/algorithm/own.yaml", "rollout: {n: 3}\n")
    cfg = load_config(write(tmp_path, "mine/a.yaml", REQUIRED + "algorithm: own\n"), [])
    save_config(cfg, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml", []) == cfg and cfg.rollout.n == 3
    assert load_config(write(tmp_path, "mine/b.yaml", REQUIRED + "algorithm: grpo\n"), []).algorithm == "grpo"


def test_a_child_names_the_algorithm_instead_of_its_parent(tmp_path: Path) -> None:
    write(tmp_path, "parent.yaml", REQUIRED + "algorithm: uec\n")
    cfg = load_config(write(tmp_path, "child.yaml", "extends: parent.yaml\nalgorithm: grpo\n"), [])
    assert cfg.algorithm == "grpo"
    assert not cfg.exploration.enabled and not cfg.replay.enabled


def test_algorithm_on_the_command_line_wins_over_the_file(make_config) -> None:
    assert make_config().exploration.enabled
    assert not make_config("algorithm=grpo").exploration.enabled


def test_the_algorithm_may_be_a_file_beside_the_config(tmp_path: Path) -> None:
    own = write(tmp_path, "mine.yaml", "rollout: {n: 3}\n")
    cfg = load_config(write(tmp_path, "run.yaml", REQUIRED + "algorithm: ./mine.yaml\n"), [])
    assert cfg.rollout.n == 3
    assert cfg.algorithm == str(own.resolve())


def test_a_list_is_replaced_and_a_mapping_is_merged(minimal: Path) -> None:
    cfg = load_config(minimal, ["eval.k=[2]", "reward.weights={format: 0.1}", "reward.weights.style=0.2"])
    assert cfg.eval.k == [2]
    assert cfg.reward.weights == {"accuracy": 1.0, "format": 0.1, "style": 0.2}


@pytest.mark.parametrize("written", ["1e-4", "0.0001", "'1e-4'"])
def test_numbers_may_be_written_in_common_notations(tmp_path: Path, written: str) -> None:
    assert load_config(write(tmp_path, "a.yaml", REQUIRED + f"learner: {{lr: {written}}}\n"), []).learner.lr == 1e-4
    assert load_config(write(tmp_path, "b.yaml", REQUIRED), [f"learner.lr={written}"]).learner.lr == 1e-4


@pytest.mark.parametrize("text", ["no", "007", "1e3", "a: b", "{prompt} Think.", "[x", "${oc.env:HOME}", "$ \\${x} #1", "it's"])
def test_a_text_on_the_command_line_is_literal(minimal: Path, text: str) -> None:
    assert load_config(minimal, [f"data.template={text}"]).data.template == text


def test_a_quoted_text_on_the_command_line_loses_its_quotes(minimal: Path) -> None:
    assert load_config(minimal, [r'data.template="a\nb"']).data.template == "a\nb"


@pytest.mark.parametrize("nothing", ["null", "~", ""])
def test_null_empties_an_optional_field(minimal: Path, nothing: str) -> None:
    assert load_config(minimal, [f"loss.dual_clip={nothing}", f"run.name={nothing}"]).loss.dual_clip is None


def test_texts_in_a_file_are_literal(tmp_path: Path) -> None:
    cfg = load_config(write(tmp_path, "a.yaml", REQUIRED + "run: {name: 007}\nrollout: {stop: [no, 5, '${x}']}\n"), [])
    assert cfg.run.name == "007"
    assert cfg.rollout.stop == ["no", "5", "${x}"]


def test_an_empty_section_changes_nothing(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, "a.yaml", REQUIRED + "rollout:\n"), []).rollout == Config().rollout


def test_anchors_and_merge_keys_work(tmp_path: Path) -> None:
    text = "model: {path: m}\ndata: &d {train: t.jsonl}\nrollout: &r {n: 3, top_k: 7}\nexploration: {n: 9}\nreplay: {rows: 4}\n"
    cfg = load_config(write(tmp_path, "a.yaml", text.replace("data: &d", "data:") + "eval: {<<: &e {n: 5}, k: [1]}\n"), [])
    assert cfg.eval.n == 5 and cfg.eval.k == [1] and cfg.rollout.top_k == 7


# --- mistakes


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("rollout.temprature=1", ["unknown key rollout.temprature", "did you mean rollout.temperature?"]),
        ("rolout.n=4", ["unknown key rolout.n", "did you mean rollout.n?"]),
        ("lr=1e-4", ["unknown key lr", "did you mean learner.lr?"]),
        ("learner.kl_coef=0.1", ["unknown key learner.kl_coef", "did you mean loss.kl_coef?"]),
        ("learner.clip_low=0.1", ["unknown key learner.clip_low", "did you mean loss.clip_low?"]),
        ("learner.clip_high=0.1", ["unknown key learner.clip_high", "did you mean loss.clip_high?"]),
        ("learner.dual_clip=null", ["unknown key learner.dual_clip", "did you mean loss.dual_clip?"]),
        ("rollout.lr=1e-4", ["unknown key rollout.lr", "did you mean learner.lr?"]),
        ("temperature=1", ["rollout.temperature", "exploration.temperature", "eval.temperature"]),
        ("rollout.colour=red", ["unknown key rollout.colour", "rollout has engines, backend"]),
        ("qqqq=1", ["unknown key qqqq", "there is algorithm, run, model, lora, data"]),
        ("rollout.n.x=1", ["unknown key rollout.n.x", "rollout.n is a whole number"]),
        ("rollout.n=eight", ["rollout.n must be a whole number, got 'eight'"]),
        ("rollout.n=8.5", ["rollout.n must be a whole number, got 8.5"]),
        ("rollout.n=true", ["rollout.n must be a whole number, got True"]),
        ("rollout.n=", ["rollout.n must be a whole number, got null"]),
        ("learner.lr=fast", ["learner.lr must be a number, got 'fast'"]),
        ("replay.capacity=big", ["replay.capacity must be a whole number or null, got 'big'"]),
        ("run.overwrite=2", ["run.overwrite must be true or false, got 2"]),
        ("eval.k=[1, x]", ["eval.k must be a list of whole numbers", "[1, 'x']"]),
        ("tracking=wandb", ["tracking must be a list of texts", "'wandb'"]),
        ("reward.weights={accuracy: much}", ["reward.weights must be a mapping of names to numbers"]),
        ("reward.weights.accuracy=much", ["reward.weights.accuracy must be a number, got 'much'"]),
        ("rollout=5", ["rollout is a section", "e.g. rollout.engines"]),
        ("rollout={n: 4, m: 4}", ["unknown key rollout.m"]),
        ("rollout.n", ["'rollout.n' is not an override", "section.field=value"]),
        ("=5", ["'=5' is not an override"]),
        ("eval.k=[1", ["'eval.k=[1'", "not valid YAML"]),
        ("model.path=null", ["model.path must be text, got null"]),
        ("algorithm=gpro", ["algorithm=gpro is unknown", "grpo", "uec"]),
        ("algorithm=no/such.yaml", ["algorithm=no/such.yaml", "no such file"]),
    ],
)
def test_a_wrong_override_is_named(minimal: Path, override: str, fragments: list[str]) -> None:
    message = message_of(minimal, override)
    assert message.startswith("command line: ")
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize(
    ("text", "line", "fragments"),
    [
        ("rollout:\n  n: 4\n  temprature: 1\n", 3, ["unknown key rollout.temprature", "rollout.temperature"]),
        ("rollout:\n  n: 4\n  max_tokens: many\n", 3, ["rollout.max_tokens must be a whole number, got 'many'"]),
        ("rollout:\n  n: 4\n  n: 5\n", 3, ["the key n appears twice"]),
        ("run: {seed: 1}\nmodel: {path: b}\nrun: {seed: 2}\n", 3, ["the key run appears twice"]),
        ("reward:\n  weights:\n    accuracy: 1\n    accuracy: 2\n", 4, ["the key accuracy appears twice"]),
        ("rollout: [n, 4]\n", 1, ["rollout is a section, found a list"]),
        ("learner:\n  lr: {value: 1}\n", 2, ["learner.lr must be a number"]),
        ("rollout:\n  n: [4\nmodel: {path: a}\n", 3, ["not valid YAML"]),
        ("rollout:\n\tn: 4\n", 2, ["not valid YAML"]),
        ("rollout:\n  ? [a]\n  : 4\n", 2, ["expected the name of a field, found a list"]),
        ("reward:\n  fn: !!python/name:os.system x\n", 2, ["the tag", "is not allowed"]),
        ("- rollout\n", 1, ["expected `section: {field: value}`, found a list"]),
        ("just words\n", 1, ["expected `section: {field: value}`, found 'just words'"]),
    ],
)
def test_a_wrong_file_is_named_with_its_line(tmp_path: Path, text: str, line: int, fragments: list[str]) -> None:
    path = write(tmp_path, "a.yaml", text)
    message = message_of(path, "model.path=m", "data.train=t")
    assert message.startswith(f"{path}, line {line}: ")
    for fragment in fragments:
        assert fragment in message


def test_several_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "rollout: {n: x}\nlearner: {rate: 1}\n")
    lines = message_of(path, "lr=1").splitlines()
    assert [line.partition(": ")[0] for line in lines] == [f"{path}, line 2", "command line", f"{path}, line 1", str(path), str(path)]
    assert "data.train is required" in lines[3] and "model.path is required" in lines[4]


def test_a_missing_field_is_named_with_the_ways_to_give_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.yaml", "data: {train: t}\n")
    assert message_of(path) == f"{path}: model.path is required; set it in the file, or as model.path=... on the command line"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, "a.yaml", text)
    assert "is empty" in message_of(path)


def test_a_file_that_is_missing_a_folder_or_no_text_is_refused(tmp_path: Path) -> None:
    assert "nope.yaml does not exist" in message_of(tmp_path / "nope.yaml")
    assert "is a folder; give a YAML file" in message_of(tmp_path)
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is not UTF-8 text (byte 1)" in message_of(binary)


def test_a_parent_that_is_missing_is_named_with_its_child(tmp_path: Path) -> None:
    message = message_of(write(tmp_path, "sub/child.yaml", "extends: ../gone.yaml\n"))
    assert "child.yaml: extends" in message and "gone.yaml" in message and "does not exist" in message


def test_a_circle_of_parents_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "b.yaml", "extends: a.yaml\n")
    message = message_of(write(tmp_path, "a.yaml", "extends: ./b.yaml\n"))
    assert "is circular" in message and message.count("a.yaml") >= 2 and "b.yaml" in message


def test_an_algorithm_cannot_name_another(tmp_path: Path) -> None:
    write(tmp_path, "algorithm/odd.yaml", "algorithm: uec\n")
    assert "use `extends`" in message_of(write(tmp_path, "a.yaml", REQUIRED), "algorithm=odd")


def test_the_files_of_this_project_load(project: Path) -> None:
    for path in sorted([*project.glob("configs/*.yaml"), *project.glob("configs/paper/*.yaml")]):
        for algorithm in sorted(project.glob("configs/algorithm/*.yaml")):
            assert load_config(path, [f"algorithm={algorithm.stem}"]).algorithm == algorithm.stem


# --- saving


def test_a_saved_config_loads_as_the_same_config(minimal: Path, tmp_path: Path) -> None:
    overrides = ["reward.fn=[exact, a.py:f]", "replay.capacity=7", "learner.lr=3e-7", "data.template={prompt} costs ${5}", "run.name=1e3"]
    cfg = load_config(minimal, overrides)
    save_config(cfg, tmp_path / "saved.yaml")
    assert load_config(tmp_path / "saved.yaml", []) == cfg


@settings(max_examples=10)
@given(st.text(), st.lists(st.text(), min_size=10), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_and_number_survives_saving(tmp_path_factory: pytest.TempPathFactory, text: str, stop: list[str], lr: float) -> None:
    path = tmp_path_factory.mktemp("saved") / "config.yaml"
    cfg = Config()
    cfg.model.path, cfg.data.train = "m", "t"
    cfg.data.template, cfg.rollout.stop, cfg.learner.lr = text, stop, lr
    save_config(cfg, path)
    assert load_config(path, []) == cfg


def test_a_saved_config_does_not_contain_overwrite_and_resume(minimal: Path, tmp_path: Path) -> None:
    save_config(load_config(minimal, ["run.overwrite=true", "run.name=x"]), tmp_path / "saved.yaml")
    saved = load_config(tmp_path / "saved.yaml", [])
    assert not saved.run.overwrite and saved.run.name == "x"
    assert load_config(tmp_path / "saved.yaml", ["run.resume=auto"]).run.resume == "auto"


def test_no_secret_of_the_environment_reaches_a_saved_config(minimal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    save_config(load_config(minimal, ["wandb.entity=${oc.env:WANDB_API_KEY}"]), tmp_path / "saved.yaml")
    assert "s3cret" not in (tmp_path / "saved.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a.jsonl", "a.jsonl"),
        ("[a.jsonl, 007]", ["a.jsonl", "007"]),
        ("'[a].jsonl'", "[a].jsonl"),
        ("2024-01-01", "2024-01-01"),
        ("{a: b}", "{a: b}"),
    ],
)
def test_a_path_or_a_list_of_paths_is_text_in_a_file_and_on_the_command_line(tmp_path: Path, text: str, value: object) -> None:
    base = "model: {path: x}\ndata:\n  train: "
    (tmp_path / "a.yaml").write_text(f"{base}y\n")
    cfg = load_config(tmp_path / "a.yaml", [f"data.train={text}"])
    assert cfg.data.train == value
    (tmp_path / "b.yaml").write_text(config_text(cfg, "b.yaml"))
    assert load_config(tmp_path / "b.yaml", []).data.train == value
    (tmp_path / "a.yaml").write_text(f"{base}[[a]]\n")
    with pytest.raises(BadInput, match="data.train must be text, or a list of texts, got"):
        load_config(tmp_path / "a.yaml", [])
    with pytest.raises(BadInput, match="data.train must be text, or a list of texts, got"):
        load_config(tmp_path / "a.yaml", ["data.train=[{a: b}]"])
