"""The lines and the file of `uec doctor --gpu`: what is green, what is red, and what the file says."""

import json
import socket

import numpy as np
import pytest

from uec.commands import cli
from uec.doctor import devices, gpu, verdicts, versions
from uec.doctor.check import Check, Status, fail, ok
from uec.doctor.console import ConsoleReport
from uec.doctor.gpu import Measured
from uec.errors import BadInput
from uec.models.logprob_gap import Gap, tolerance
from uec.system.gpu_devices import Device
from uec.system.platform import detect

OK, NOTE, FAIL = Status.OK, Status.NOTE, Status.FAIL
H100 = Device("NVIDIA H100", 80 << 30, (9, 0))
GIB = 1 << 30


# --- before anything starts


@pytest.mark.parametrize(("driver", "packages", "words"), [
    ([], False, ["`nvidia-smi` lists no GPU", "make setup ACCEL=gpu"]),
    ([], True, ["`nvidia-smi` lists no GPU"]),
    (["NVIDIA H100 with 81559 MiB, driver 570.86"], False, ["make setup ACCEL=gpu"]),
    (["NVIDIA H100 with 81559 MiB, driver 570.86"], True, ["CUDA_VISIBLE_DEVICES"]),
])  # fmt: skip
def test_without_a_gpu_the_message_names_what_is_missing_and_the_status_is_2(monkeypatch, capsys, driver, packages, words) -> None:
    monkeypatch.setattr(gpu, "gpu_devices", lambda: [])
    monkeypatch.setattr(devices, "driver_gpus", lambda: driver)
    monkeypatch.setattr(versions, "gpu_packages", lambda: packages)
    assert cli.main(["doctor", "--gpu"]) == 2
    said = capsys.readouterr()
    assert said.out == "" and all(word in said.err for word in ["uec doctor --gpu needs a GPU", *words])
    assert ("ACCEL=gpu" in said.err) is not packages


def test_a_report_that_cannot_be_written_is_refused_before_the_checks(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(gpu, "gpu_devices", lambda: [H100])
    gpu.require_gpu(tmp_path / "gpu.json")
    with pytest.raises(BadInput, match="its folder does not exist"):
        gpu.require_gpu(tmp_path / "none" / "gpu.json")


@pytest.mark.parametrize("words", [["--json", "x.json"], ["--gpu", "configs/llm.yaml"], ["--gpu", "--quick"]])
def test_options_that_do_not_go_together_are_bad_input(words: list[str]) -> None:
    assert cli.main(["doctor", *words]) == 2


# --- the line of the set-up


def sound_versions(monkeypatch) -> None:
    monkeypatch.setattr(versions, "package_versions", lambda: iter([ok("torch", "2.13.0")]))
    monkeypatch.setattr(versions, "plugin", lambda: ok("uec-rl", "installed"))
    monkeypatch.setattr(devices, "driver_gpus", lambda: ["NVIDIA H100 with 81559 MiB, driver 570.86.15"])


def test_the_set_up_is_green_with_device_capability_memory_and_driver(monkeypatch) -> None:
    sound_versions(monkeypatch)
    line = gpu.set_up([H100, H100])
    assert line.check.status is OK
    assert "2 x NVIDIA H100 of 80.0 GiB, capability 9.0, driver 570.86.15" in line.check.found
    assert line.numbers == {"gpus": 2.0, "bytes": 80.0 * GIB, "capability": 9.0}


@pytest.mark.parametrize(("found", "word"), [
    ([], "sees no GPU"),
    ([Device("NVIDIA T4", 80 << 30, (7, 5))], "capability 8.0"),
    ([H100, Device("NVIDIA A2", 16 << 30, (8, 6))], "24 GB"),
])  # fmt: skip
def test_the_set_up_is_red_with_no_gpu_an_old_one_or_a_small_one(monkeypatch, found: list[Device], word: str) -> None:
    sound_versions(monkeypatch)
    check = gpu.set_up(found).check
    assert check.status is FAIL and word in check.found


def test_the_set_up_is_red_with_another_version_than_the_pinned_one(monkeypatch) -> None:
    sound_versions(monkeypatch)
    monkeypatch.setattr(versions, "package_versions", lambda: iter([fail("torch", "2.11.0, setup.cfg pins 2.13.0", "run `make setup`")]))
    check = gpu.set_up([H100]).check
    assert check.status is FAIL and "torch: 2.11.0, setup.cfg pins 2.13.0" in check.found


# --- verdicts

ROWS = {"loss": 11.92, "loss_padded": 11.93, "gradient_gap": 0.03, "gradient_error": 0.021, "gradient_error_padded": 0.02}


@pytest.mark.parametrize(("change", "status"), [
    ({}, OK),
    ({"gradient_error": 0.039}, OK),  # at most twice 0.02
    ({"gradient_error": 0.041}, FAIL),
    ({"loss": 12.06}, FAIL),  # more than 1 % of 11.93 away
    ({"loss": float("nan")}, FAIL),
    ({"gradient_error": float("nan")}, FAIL),
])  # fmt: skip
def test_packed_rows_may_be_twice_as_far_from_float32_as_padded_rows(change: dict[str, float], status: Status) -> None:
    assert verdicts.attention("varlen rows", "varlen", ROWS | change).status is status


def test_packed_rows_that_are_slower_than_padded_ones_are_red() -> None:
    found = verdicts.speed("packed rows", 3.0, {"varlen": 1.0, "blocks": 2.0}, judges=True)
    assert found.status is OK and "varlen is 3.0 times as fast" in found.found
    assert verdicts.speed("packed rows", 3.0, {"blocks": 3.1}, judges=True).status is FAIL
    assert verdicts.speed("packed rows", 3.0, {"blocks": 3.1}, judges=False).status is OK
    assert verdicts.speed("packed rows", 3.0, {}, judges=False).status is FAIL


def test_a_gap_is_the_mean_and_the_largest_difference_and_infinite_where_not_finite() -> None:
    ours = [np.array([-1.0, -2.0], np.float32), np.array([-3.0], np.float32)]
    theirs = [np.array([-1.5, -2.0], np.float32), np.array([-2.0], np.float32)]
    assert Gap.of(ours, theirs) == Gap(0.5, 1.0)  # differences 0.5, 0 and 1
    assert Gap.of(ours, [theirs[0], np.array([np.nan], np.float32)]).mean == float("inf")


@pytest.mark.parametrize(("gap", "dtype", "settings", "within"), [
    (Gap(0.09, 1.9), "bfloat16", [], True),
    (Gap(0.11, 1.9), "bfloat16", [], False),
    (Gap(0.09, 2.1), "bfloat16", [], False),  # above 20 x 0.1
    (Gap(9e-4, 9e-4), "float32", [], True),
    (Gap(1e-4, 2e-3), "float32", [], False),
    (Gap(0.2, 0.3), "bfloat16", ["weights.tolerance=0.25"], True),
    (Gap(0.2, 0.3), "bfloat16", ["weights.tolerance=0.25", "weights.max_gap=0.26"], False),
])  # fmt: skip
def test_the_gap_is_judged_by_its_mean_and_loosely_by_its_largest(make_config, gap, dtype, settings, within: bool) -> None:
    cfg = make_config(f"model.dtype={dtype}", *settings)
    assert gap.within(tolerance(cfg, detect(cfg, "cpu"))) is within


@pytest.mark.parametrize(("within", "engine_moved", "status"), [(True, 0.9, OK), (True, 0.1, FAIL), (True, 2.5, FAIL), (False, 1.0, FAIL)])
def test_an_engine_that_moves_otherwise_than_the_learner_is_red(within: bool, engine_moved: float, status: Status) -> None:
    assert verdicts.gaps("probe gaps", Gap(0.01, 0.1), within, 1.0, engine_moved).status is status


def test_memory_that_grows_with_the_versions_is_red() -> None:
    assert verdicts.sync("weight sync", 6, GIB, 0.1, 0.2, 63 << 20).status is OK
    grown = verdicts.sync("weight sync", 6, GIB, 0.1, 0.2, 65 << 20)
    assert grown.status is FAIL and "grew by 65 MiB" in grown.found


@pytest.mark.parametrize(("asleep", "restored", "within", "status"), [
    (30, 50, True, OK),  # frees 20 of the engine's 32 GiB
    (35, 50, True, FAIL),  # frees 15, less than half of 32
    (30, 45, True, FAIL),  # 5 GiB are missing, more than 5 % of 80
    (30, 50, False, FAIL),
])  # fmt: skip
def test_a_sleep_has_to_free_memory_and_a_wake_to_restore_it(asleep: int, restored: int, within: bool, status: Status) -> None:
    found = verdicts.sleep("sleep", 50 * GIB, asleep * GIB, restored * GIB, 32.0 * GIB, 80.0 * GIB, Gap(0.01, 0.1), within)
    assert found.status is status


@pytest.mark.parametrize(("used", "status"), [(10.9, OK), (11.1, FAIL), (5.1, OK), (4.9, NOTE)])
def test_the_peak_may_exceed_the_estimate_by_a_tenth(used: float, status: Status) -> None:
    assert verdicts.peak("peak memory", used * GIB, 10.0 * GIB).status is status


def test_an_engine_far_below_any_gpus_speed_is_red() -> None:
    assert verdicts.tokens("tokens/s", 499.0, "499 tokens/s", 500.0).status is FAIL
    assert verdicts.tokens("tokens/s", 500.0, "500 tokens/s", 500.0).status is OK


def test_a_tensor_parallel_engine_with_a_gap_is_red() -> None:
    assert verdicts.parallel("tensor split", Gap(0.01, 0.1), True, "9 tokens/s").status is OK
    assert verdicts.parallel("tensor split", Gap(0.01, 0.1), False, "9 tokens/s").status is FAIL


# --- the file


def test_the_file_has_device_driver_versions_and_each_checks_numbers(monkeypatch, tmp_path) -> None:
    sound_versions(monkeypatch)
    lines = [
        Measured(ok("tokens/s", "9000 tokens/s"), {"tokens_per_s": 9000.123456}, 12.34),
        gpu.skipped("nccl", "needs 2 GPUs, this machine has 1"),
        Measured(fail("sleep", "no memory was freed", "see the log"), {"gap_mean": float("inf")}),
    ]
    gpu.write(tmp_path / "gpu.json", [H100], lines)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert (found["format"], found["passed"], found["driver"]) == (1, False, "570.86.15")
    assert found["devices"] == [{"name": "NVIDIA H100", "bytes": 80 * GIB, "capability": 9.0}]
    assert {"python", "cuda", "torch", "transformers", "ray"} <= found["versions"].keys()
    assert found["checks"] == [
        {"name": "tokens/s", "status": "ok", "found": "9000 tokens/s", "numbers": {"tokens_per_s": 9000.1}, "seconds": 12.3},
        {"name": "nccl", "status": "skip", "found": "needs 2 GPUs, this machine has 1", "numbers": {}, "seconds": 0.0},
        {"name": "sleep", "status": "fail", "found": "no memory was freed", "numbers": {"gap_mean": "inf"}, "seconds": 0.0},
    ]
    gpu.write(tmp_path / "gpu.json", [H100], lines[:2])
    assert json.loads((tmp_path / "gpu.json").read_text())["passed"] is True  # a skipped check is no failure


def test_the_file_names_no_path_host_user_address_or_secret(monkeypatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "node7.cluster.example")
    monkeypatch.setenv("USER", "alice")
    monkeypatch.setenv("WANDB_API_KEY", "quite-a-secret")
    text = (
        "learner-0 failed: OSError on node7 at 10.1.2.3:6379; last lines of /home/alice/uec/logs/a.log: ~/.cache/x, ../y/z, "
        "user alice, key quite-a-secret, hf_abcdefghij, node7.cluster.example, 0123456789abcdef0123456789abcdef and 9000 tokens/s"
    )
    found = gpu.scrub(text)
    for word in ("node7", "10.1.2.3", "/home", "alice", "quite-a-secret", "hf_", "0123456789abcdef", ".cache", "y/z"):
        assert word not in found, word
    assert found.startswith("learner-0 failed: OSError on <host> at <address>; last lines of <path>: <path>, <path>,")
    assert found.endswith("and 9000 tokens/s")


def test_skipped_checks_are_counted_in_the_last_line(capsys) -> None:
    with ConsoleReport() as report:
        report.add(Check("set-up", OK, "one GPU"))
        report.add(gpu.skipped("nccl", "needs 2 GPUs, this machine has 1").check)
        report.end()
    assert capsys.readouterr().out.splitlines() == [
        "ok    set-up          one GPU",
        "skip  nccl            needs 2 GPUs, this machine has 1",
        "all checks passed, 1 skipped",
    ]
