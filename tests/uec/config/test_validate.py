"""The checks of a config: each problem is reported with the fields, their values and the fix."""

from pathlib import Path

import pytest

from uec.config.file import load_config
from uec.config.validate import check_cluster, check_context, check_disk, notes, validate
from uec.errors import BadInput


def message_of(make_config, *overrides: str) -> str:
    with pytest.raises(BadInput) as caught:
        validate(make_config(*overrides))
    return str(caught.value)


def test_the_configs_of_this_project_are_valid(project: Path) -> None:
    paths = [path for folder in ("", "paper", "gpu") for path in project.glob(f"configs/{folder}/*.yaml") if "_dapo" not in path.stem]
    pairs = [(path, name.stem) for path in paths for name in project.glob("configs/algorithm/*.yaml")]
    assert len(pairs) >= 2 * 15
    for path, algorithm in pairs:
        assert validate(load_config(path, [f"algorithm={algorithm}"])) is None  # raises if the config is invalid


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.n=1", "rollout.n=1 must be at least 2"),
        ("exploration.n=1", "exploration.n=1 must be at least 2"),
        ("rollout.temperature=0", "rollout.temperature=0.0 must be above 0"),
        ("rollout.top_p=1.01", "rollout.top_p=1.01 must be above 0 and at most 1"),
        ("rollout.top_k=-2", "rollout.top_k=-2 must be at least -1"),
        ("rollout.min_p=-0.1", "rollout.min_p=-0.1 must be at least 0 and at most 1"),
        ("rollout.max_tokens=0", "rollout.max_tokens=0 must be at least 1"),
        ("weights.backend=magic", "weights.backend='magic' is none of auto, shm, nccl, ipc"),
        ("exploration.keep=all", "exploration.keep='all' is none of positive, informative"),
        ("learner.lr=0", "learner.lr=0.0 must be above 0"),
        ("learner.lr=.inf", "learner.lr=inf is not a finite number"),
        ("learner.lr=nan", "learner.lr=nan is not a finite number"),
        ("learner.zero_stage=4", "learner.zero_stage=4 must be at least 0 and at most 3"),
        ("learner.betas=[0.9, 1.0]", "learner.betas[1]=1.0 must be at least 0 and below 1"),
        ("learner.betas=[-0.1, 0.9]", "learner.betas[0]=-0.1 must be at least 0 and below 1"),
        ("loss.dual_clip=1", "loss.dual_clip=1.0 must be above 1"),
        ("reward.weights.accuracy=-1", "reward.weights.accuracy=-1.0 must be at least 0"),
        ("reward.weights.accuracy=.nan", "reward.weights.accuracy=nan is not a finite number"),
        ("reward.on_error=2", "reward.on_error=2.0 must be at least 0 and at most 1"),
        ("train.max_staleness=9", "train.max_staleness=9 must be at least 0 and at most 8"),
        ("run.seed=-1", "run.seed=-1 must be at least 0"),
        ("eval.k=[0, 1]", "eval.k[0]=0 must be at least 1"),
        ("checkpoint.keep=0", "checkpoint.keep=0 must be at least 1"),
        ("tracking=[jsonl, mlflow]", "tracking[1]='mlflow' is none of console, jsonl, tensorboard, wandb"),
    ],
)
def test_a_value_out_of_range_is_reported_with_its_range(make_config, override: str, message: str) -> None:
    assert message_of(make_config, override) == message


@pytest.mark.parametrize(
    ("overrides", "fragments"),
    [
        (["exploration.temperature=1.0"], ["exploration.temperature=1 must be above rollout.temperature=1", "exploration.enabled=false"]),
        (["exploration.temperature=1.2", "rollout.temperature=1.3"], ["exploration.temperature=1.2", "rollout.temperature=1.3"]),
        (["learner.ranks=3"], ["train.prompts_per_step=32 x rollout.n=8 = 256", "learner.ranks=3"]),
        (["learner.betas=[0.9]"], ["learner.betas=[0.9] must be two numbers"]),
        (["learner.warmup_steps=25", "train.steps=20", "replay.every=5"], ["learner.warmup_steps=25", "24 optimizer steps"]),
        (["replay.rows=513"], ["replay.rows=513", "replay.capacity=512"]),
        (["replay.min_rows=513"], ["replay.min_rows=513", "replay.capacity=512", "replay would never run"]),
        (["replay.capacity=null", "replay.min_rows=513"], ["replay.capacity=512 (2 x train.prompts_per_step x rollout.n)"]),
        (["replay.source=exploration", "exploration.enabled=false"], ["replay.source=exploration", "exploration.enabled=false"]),
        (["eval.k=[1, 32]"], ["eval.k=[1, 32]: pass@32", "eval.n=16"]),
        (["eval.k=[]"], ["eval.k is empty"]),
        (["eval.every=5", "data.eval=null"], ["eval.every=5", "data.eval is not set"]),
        (["rollout.max_batched_tokens=64"], ["rollout.max_batched_tokens=64", "rollout.max_num_seqs=512"]),
        (["rollout.top_k=0"], ["rollout.top_k=0"]),
        (["rollout.stop=['']"], ["rollout.stop holds an empty text"]),
        (["weights.backend=ipc", "cluster.placement=separate"], ["weights.backend=ipc", "cluster.placement=separate"]),
        (["weights.backend=nccl", "cluster.placement=colocated"], ["weights.backend=nccl", "cluster.placement=colocated"]),
        (["rollout.sleep=1"], ["rollout.sleep=1", "cluster.placement=colocated"]),
        (["learner.offload=all"], ["learner.offload=all", "cluster.placement=colocated"]),
        (["cluster.placement=colocated", "rollout.sleep=1", "train.max_staleness=1"], ["rollout.sleep=1", "train.max_staleness=1"]),
        (["cluster.placement=colocated", "rollout.engines=2"], ["cluster.placement=colocated", "rollout.engines=2", "learner.ranks=1"]),
        (["cluster.placement=colocated", "rollout.tensor_parallel=2"], ["cluster.placement=colocated", "rollout.tensor_parallel=2"]),
        (["data.system=Be brief.", "data.chat=false"], ["data.system=Be brief.", "data.chat=false"]),
        (["run.resume=auto"], ["run.resume=auto", "run.name"]),
        (["run.resume=auto", "run.name=a", "run.overwrite=true"], ["run.resume=auto", "run.overwrite=true", "choose one"]),
        (["run.name=../elsewhere"], ["run.name='../elsewhere'", "run.dir"]),
        (["tracking=[jsonl, jsonl]"], ["tracking names jsonl twice"]),
    ],
)
def test_fields_in_conflict_are_both_named(make_config, overrides: list[str], fragments: list[str]) -> None:
    message = message_of(make_config, *overrides)
    assert "\n" not in message
    for fragment in fragments:
        assert fragment in message


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "-x", "a\n", "x" * 201])
def test_a_run_name_cannot_leave_its_folder_or_hide(make_config, name: str) -> None:
    cfg = make_config()
    cfg.run.name = name
    with pytest.raises(BadInput, match="run.name"):
        validate(cfg)


@pytest.mark.parametrize("name", ["a", "llm-uec-20260101-120000", "β2=0.95", "v1.2+x@y"])
def test_usual_run_names_are_accepted(make_config, name: str) -> None:
    assert validate(make_config(f"run.name={name}")) is None


@pytest.mark.parametrize(
    "overrides",
    [
        ["exploration.enabled=false", "exploration.temperature=0.5"],
        ["replay.enabled=false", "replay.min_rows=9999"],
        ["learner.ranks=256"],
        ["learner.warmup_steps=24", "train.steps=20", "replay.every=5"],
        ["eval.k=[16]"],
        ["replay.capacity=128", "replay.rows=128", "replay.min_rows=128"],
        ["run.resume=auto", "run.name=a"],
    ],
)
def test_an_apparent_conflict_is_accepted(make_config, overrides: list[str]) -> None:
    assert validate(make_config(*overrides)) is None


def test_several_problems_are_reported_at_once(make_config) -> None:
    message = message_of(make_config, "rollout.n=1", "learner.lr=-1")
    assert message.splitlines() == ["rollout.n=1 must be at least 2", "learner.lr=-1.0 must be above 0"]
    assert len(message_of(make_config, "learner.ranks=3", "eval.k=[]").splitlines()) == 2


def test_a_micro_batch_below_the_longest_sequence_is_only_noted(make_config) -> None:
    cfg = make_config("learner.micro_batch_tokens=34")  # 16 + 19 = 35
    validate(cfg)
    assert len(notes(cfg)) == 1 and "learner.micro_batch_tokens=34" in notes(cfg)[0] and "35" in notes(cfg)[0]
    assert notes(make_config("learner.micro_batch_tokens=35")) == []


def test_an_admission_threshold_that_no_advantage_passes_is_noted(make_config) -> None:
    # One success of two: A = (1 - 1/2) / sqrt(1/2) = 0.707, the largest advantage.
    assert "0.707" in notes(make_config("rollout.n=2", "exploration.enabled=false"))[0]
    # One of three: (1 - 1/3) / sqrt(1/3) = 1.155.
    assert notes(make_config("rollout.n=3", "exploration.enabled=false")) == []
    assert notes(make_config("rollout.n=2", "exploration.n=3")) == []


def test_an_estimator_whose_advantages_stay_low_is_noted_with_replay(make_config) -> None:
    # G' = 16 and one success: 1 - 1/16 = 0.9375 centred, 1 less the others' 0 with RLOO; A_0 = 1 is not exceeded
    assert "0.938" in notes(make_config("advantage.estimator=centred"))[0]
    assert "no advantage is above 1" in notes(make_config("advantage.estimator=rloo"))[0]
    assert notes(make_config("advantage.estimator=rloo", "replay.min_advantage=0.5")) == []
    assert notes(make_config("advantage.estimator=rloo", "reward.weights.format=0.5")) == []  # rewards up to 1.5
    # over a whole step there is no such bound, even for small groups
    assert notes(make_config("advantage.estimator=batch", "rollout.n=2", "exploration.enabled=false")) == []


def test_prompt_and_response_must_fit_the_context(make_config) -> None:
    cfg = make_config()  # 16 + 19
    check_context(cfg, 35)
    with pytest.raises(BadInput) as caught:
        check_context(cfg, 32)
    for fragment in ("data.max_prompt_tokens=16", "rollout.max_tokens=19", "32 tokens", "by 3"):
        assert fragment in str(caught.value)


def test_too_few_cpus_of_the_cluster_are_reported_with_all_demands(make_config) -> None:
    cfg = make_config("rollout.engines=2", "rollout.cpus=0.5", "learner.cpus=0.5", "reward.cpus=0.05")
    check_cluster(cfg, 1.57, 0)
    with pytest.raises(BadInput) as caught:
        check_cluster(cfg, 1.5, 0)
    for fragment in ("wants 1.57 CPUs", "has 1.5", "rollout.engines=2 x rollout.cpus=0.5", "learner.ranks=1 x learner.cpus=0.5"):
        assert fragment in str(caught.value)


def test_image_actors_count_if_the_data_has_images(make_config) -> None:
    cfg = make_config("data.image.workers=2", "data.image.cpus=0.25", "rollout.cpus=0.5", "learner.cpus=0.4", "reward.cpus=0.05")
    check_cluster(cfg, 1, 0)
    with pytest.raises(BadInput, match=r"wants 1.47 CPUs.*data.image.workers=2 x data.image.cpus=0.25"):
        check_cluster(cfg, 1, 0, images=True)


def test_too_few_gpus_of_the_cluster_are_refused_unless_they_are_shared(make_config) -> None:
    asked = ["rollout.engines=2", "rollout.tensor_parallel=2", "learner.ranks=4"]
    check_cluster(make_config(*asked), 8, 8)
    with pytest.raises(BadInput) as caught:
        check_cluster(make_config(*asked), 8, 7)
    for fragment in ("wants 8 GPUs", "has 7", "rollout.engines=2 x rollout.tensor_parallel=2", "learner.ranks=4", "placement=colocated"):
        assert fragment in str(caught.value)
    check_cluster(make_config("rollout.engines=4", "learner.ranks=4", "cluster.placement=colocated"), 8, 4)


def test_a_cluster_without_gpus_needs_none_and_divides_no_engine(make_config) -> None:
    check_cluster(make_config(), 2, 0)
    with pytest.raises(BadInput, match=r"^rollout.tensor_parallel=2 divides an engine among GPUs, and the cluster has none; set it to 1$"):
        check_cluster(make_config("rollout.tensor_parallel=2"), 2, 0)


def test_a_place_that_is_not_writable_is_refused(make_config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write to"):
        check_disk(make_config(f"run.dir={tmp_path}/file"), tmp_path / "file" / "run")
    check_disk(make_config(f"run.dir={tmp_path}/new/folder"), tmp_path / "new" / "folder" / "run")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_disk_without_space_for_the_checkpoints_is_refused(make_config, tmp_path: Path) -> None:
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(1 << 43)  # a sparse file of 8 TiB
    with pytest.raises(BadInput) as caught:
        check_disk(make_config(f"model.path={tmp_path}", f"run.dir={tmp_path}"), tmp_path / "run")
    for fragment in ("MiB free", "checkpoint.keep=2", f"run.dir={tmp_path}"):
        assert fragment in str(caught.value)
