"""Grading processes: if one hangs, dies, raises or lies, only the response that it was grading fails."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from uec.config.schema import RewardConfig
from uec.errors import BadInput, RunFailed
from uec.rewards.pool import GradingPool
from uec.rewards.process import Grade
from uec.rewards.wire import Task

# The row tells the grader what to do. The tests of messages depend on line numbers.
GRADER = """
import ctypes, os, re, signal, stat, subprocess, sys, time

def score(response, answer, do="", path="", **row):
    if do == "hang":
        time.sleep(1000)
    if do == "hang in C":
        re.match("(a+)+$", "a" * 60 + "b")
    if do == "raise":
        raise KeyError("no such thing")
    if do == "exit":
        sys.exit(3)
    if do == "interrupt":
        raise KeyboardInterrupt
    if do == "die":
        sys.stderr.write("out of luck")
        sys.stderr.flush()
        os._exit(3)
    if do == "crash":
        ctypes.string_at(0)
    if do == "memory":
        bytearray(1 << 30)
    if do == "text":
        return "abc"
    if do == "part":
        return {"format": 1.0}
    if do == "print":
        print("seen by the grader")
    if do == "pid":
        open(path, "w").write(str(os.getpid()))
    if do == "child":
        open(path, "w").write(str(subprocess.Popen(["sleep", "1000"]).pid))
        time.sleep(1000)
    if do == "orphan":
        if os.fork() == 0:
            time.sleep(1000)  # with every descriptor that it inherited
        os._exit(0)
    if do == "fork":
        if os.fork() == 0:
            return 0.0
        os.wait()
    if do == "lie":
        for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
            try:
                if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
                    os.write(descriptor, b"[[99, null, null]]\\n")
            except OSError:
                pass
        time.sleep(1000)
    if do == "modules":
        return float(not {"numpy", "torch", "vllm", "ray", "transformers"} & set(sys.modules))
    return float(response == answer)
"""
RAISE_LINE = 2 + GRADER[: GRADER.index("raise KeyError")].count("\n") - 1


@pytest.fixture(scope="module")
def grader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("grader") / "misbehave.py"
    path.write_text(GRADER)
    return path


@pytest.fixture
def make_pool(grader: Path) -> Iterator[Callable[..., GradingPool]]:
    pools: list[GradingPool] = []

    def make(output: int | None = None, **reward) -> GradingPool:
        pools.append(GradingPool(RewardConfig(**({"fn": f"{grader}:score", "timeout_s": 1.0} | reward)), output))
        pools[-1].start()
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def grade(pool: GradingPool, *acts: str, **row) -> list[Grade]:
    return asyncio.run(pool.grade([Task("a", "a", {"do": act, **row}) for act in acts]))


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ends(pid: int, within_s: float = 5.0) -> bool:
    deadline = time.monotonic() + within_s
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_running(pid)


def test_grades_come_in_the_order_of_the_tasks(make_pool) -> None:
    for processes in (1, 3):
        pool = make_pool(processes=processes)
        tasks = [Task(str(i), str(i if i % 3 else -1), {}) for i in range(100)]
        assert [g.accuracy for g in asyncio.run(pool.grade(tasks))] == [float(i % 3 != 0) for i in range(100)]
        assert asyncio.run(pool.grade([])) == []


@pytest.mark.parametrize("act", ["hang", "hang in C"])
def test_a_timeout_hits_only_the_response_that_hangs(make_pool, act: str) -> None:
    pool = make_pool(on_error=0.25)
    begin = time.monotonic()
    grades = grade(pool, *[""] * 7, act, *[""] * 12)
    assert [g.accuracy for g in grades] == [1.0] * 7 + [0.25] + [1.0] * 12
    late = grades[7]
    assert late.timed_out and late.reward == 0.25 and late.parts == {} and "reward.timeout_s = 1 s" in (late.error or "")
    assert not any(g.timed_out or g.error for g in grades[:7] + grades[8:])
    assert 1.0 <= time.monotonic() - begin < 8.0
    assert (pool.counts.graded, pool.counts.errors, pool.counts.timeouts, pool.counts.replaced) == (20, 1, 1, 1)


def test_two_processes_wait_for_two_hangs_side_by_side(make_pool) -> None:
    pool = make_pool(processes=2, timeout_s=2.0)
    begin = time.monotonic()
    grades = grade(pool, "hang", *[""] * 10, "hang")
    assert [g.timed_out for g in grades] == [True] + [False] * 10 + [True]
    assert time.monotonic() - begin < 3.9


def test_the_event_loop_goes_on_while_a_grading_hangs(make_pool) -> None:
    pool = make_pool()

    async def count_while_grading() -> int:
        grading = asyncio.ensure_future(pool.grade([Task("a", "a", {"do": "hang"})]))
        ticks = 0
        while not grading.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(count_while_grading()) > 20


def test_an_exception_is_an_error_with_its_type_and_the_users_line(make_pool, grader: Path) -> None:
    pool = make_pool()
    grades = grade(pool, "", "raise", "exit", "interrupt", "")
    assert [g.error is None for g in grades] == [True, False, False, False, True]
    assert "KeyError: 'no such thing'" in grades[1].error and f"{grader}:{RAISE_LINE} in score" in grades[1].error
    assert "SystemExit: 3" in grades[2].error and "KeyboardInterrupt" in grades[3].error
    assert pool.counts.replaced == 0, "no process had to be replaced"


def test_the_first_error_is_kept_with_the_count_of_all(make_pool) -> None:
    pool = make_pool()
    grade(pool, "", "raise")
    grade(pool, "exit", "text")
    assert pool.counts.errors == 3 and pool.counts.timeouts == 0
    assert "KeyError" in pool.counts.first_error


def test_a_wrong_result_or_a_missing_part_is_an_error_that_names_the_function(make_pool, grader: Path) -> None:
    grades = grade(make_pool(), "text", "part", "")
    assert f"{grader}:score returned accuracy = 'abc' (str)" in grades[0].error
    assert f"the part accuracy, which {grader}:score did not return; it returned format" in grades[1].error
    assert grades[2].error is None


def test_a_process_that_dies_or_crashes_costs_one_response_and_says_how_it_ended(make_pool) -> None:
    pool = make_pool()
    grades = grade(pool, "", "die", "", "crash", "", "die")
    assert [g.accuracy for g in grades] == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]
    assert "ended with exit status 3; its last words: out of luck" in grades[1].error
    assert "SIGSEGV" in grades[3].error and "misbehave.py" in grades[3].error
    assert pool.counts.replaced == 3
    assert grade(pool, "")[0].accuracy == 1.0


def test_an_allocation_past_the_memory_limit_is_an_error_and_no_death(make_pool) -> None:
    pool = make_pool(memory_mb=512)
    error = grade(pool, "memory")[0].error
    assert "MemoryError" in error and "reward.memory_mb" in error
    assert pool.counts.replaced == 0


def test_a_killed_grader_takes_the_programs_with_it_that_it_started(make_pool, tmp_path: Path) -> None:
    assert grade(make_pool(), "child", path=str(tmp_path / "pid"))[0].timed_out
    assert ends(int((tmp_path / "pid").read_text()))


def test_a_program_that_holds_a_dead_graders_pipes_does_not_hold_up_the_rest(make_pool) -> None:
    grades = grade(make_pool(timeout_s=20.0), "orphan", "")
    assert "exit status 0" in grades[0].error and grades[1].accuracy == 1.0


def test_a_fork_that_returns_from_the_grader_is_ignored(make_pool) -> None:
    grades = grade(make_pool(), "", "fork", "")
    assert [g.accuracy for g in grades] == [1.0, 1.0, 1.0]


def test_a_process_that_sends_anything_but_results_is_ended(make_pool) -> None:
    grades = grade(make_pool(timeout_s=100.0), "", "lie", "")
    assert "sent no result but" in grades[1].error
    assert [g.accuracy for g in grades] == [1.0, 0.0, 1.0]


def test_output_of_a_grader_reaches_the_given_file_and_no_console(make_pool, tmp_path: Path, capfd) -> None:
    pool = make_pool()
    grade(pool, "print")
    grade(pool, "die")
    assert capfd.readouterr() == ("", "")
    with (tmp_path / "log").open("w") as file:
        grade(make_pool(output=file.fileno()), "print")
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "log").read_text() == "seen by the grader\n"


def test_a_grading_process_imports_nothing_heavy(make_pool) -> None:
    assert grade(make_pool(), "modules")[0].accuracy == 1.0


def test_ctrl_c_does_not_end_a_grading_process(make_pool, tmp_path: Path) -> None:
    pool = make_pool()
    grade(pool, "pid", path=str(tmp_path / "pid"))
    pid = int((tmp_path / "pid").read_text())
    assert os.getpgid(pid) != os.getpgid(0), "a terminal sends Ctrl-C to our process group"
    os.kill(pid, signal.SIGINT)
    grade(pool, "pid", path=str(tmp_path / "pid"))
    assert int((tmp_path / "pid").read_text()) == pid and pool.counts.replaced == 0


def test_grading_processes_end_with_a_parent_that_is_killed(grader: Path, tmp_path: Path) -> None:
    program = f"""
        import asyncio
        from uec.config.schema import RewardConfig
        from uec.rewards.pool import GradingPool
        from uec.rewards.wire import Task
        pool = GradingPool(RewardConfig(fn="{grader}:score", timeout_s=1000.0))
        pool.start()
        asyncio.run(pool.grade([Task("a", "a", {{"do": "pid", "path": "{tmp_path}/pid"}}), Task("a", "a", {{"do": "hang in C"}})]))
    """
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline and parent.poll() is None
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text())
        time.sleep(0.1)  # until it hangs
        assert is_running(pid)
    finally:
        parent.kill()
        parent.wait()
    assert ends(pid)


def test_closing_ends_a_running_grading_and_refuses_new_ones(make_pool) -> None:
    pool = make_pool(timeout_s=1000.0)

    async def close_soon() -> None:
        grading = asyncio.ensure_future(pool.grade([Task("a", "a", {"do": "hang"})]))
        await asyncio.sleep(0.2)
        await asyncio.to_thread(pool.close)
        await grading

    with pytest.raises(RunFailed, match="closed"):
        asyncio.run(close_soon())
    with pytest.raises(RunFailed, match="not running"):
        grade(pool, "")


def test_a_cancelled_grading_does_not_stop_the_pool(make_pool) -> None:
    pool = make_pool()

    async def give_up() -> list[Grade]:
        first = asyncio.ensure_future(pool.grade([Task("a", "a", {"do": "hang"})]))
        second = asyncio.ensure_future(pool.grade([Task("a", "a", {})]))
        await asyncio.sleep(0.1)
        first.cancel()
        second.cancel()
        return await pool.grade([Task("a", "a", {})])

    assert asyncio.run(give_up())[0].accuracy == 1.0


def test_a_reward_function_that_does_not_load_is_bad_input_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("import no_such_package\n")
    with pytest.raises(BadInput, match="no_such_package"):
        GradingPool(RewardConfig(fn=f"{path}:score")).start()
    path.write_text("import os\nos._exit(7)\n")
    with pytest.raises(RunFailed, match="exit status 7"):
        GradingPool(RewardConfig(fn=f"{path}:score", processes=2)).start()


@pytest.mark.e2e
def test_model_output_is_never_executed_and_never_outlives_the_timeout(make_pool, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    code = f"__import__('os').system('touch {mark}')"
    hang = ["10^{10^{10}}", "9^{9^{9^{9^{9}}}}", "{" * 60 + "1" + "}" * 60, "(x+1)^{1000000}", "\\sum_{n=1}^{1000000000} n^{n}"]
    contents = [
        code,
        f"\\text{{{code}}}",
        f"{{{code}}}",
        f'"{code}"',
        f"\\{{{code}, 1\\}}",
        f'eval("{code}")',
        f"\\operatorname{{{code}}}(1)",
        "10^{10000}",
        "9" * 100_000,
        "\\sqrt{" * 15 + "x" + "}" * 15,
        "\x00\ud800\u202e\U0010ffff",
        *hang,
    ]
    responses = [f"so \\boxed{{{content}}}" for content in contents] + ["\\boxed{" * 100_000, "a" * 2_000_000, code, "\n" * 1_000_000]
    tasks = [Task(response, "7211", {}) for response in responses]
    pool = make_pool(fn=["boxed", "format"], timeout_s=1.0, processes=2, weights={"accuracy": 0.9, "format": 0.1})
    begin = time.monotonic()
    grades = asyncio.run(pool.grade(tasks))
    seconds = time.monotonic() - begin
    assert all(g.accuracy == 0.0 for g in grades)
    assert pool.counts.timeouts <= 1, "most are out of proportion and are refused before math-verify computes them"
    assert all(g.timed_out or g.error is None or "MemoryError" in g.error for g in grades), [g.error for g in grades if g.error]
    assert seconds < 60.0
    assert all(g.reward == 0.0 for g in asyncio.run(make_pool(fn="exact").grade(tasks)))
    assert not mark.exists()


def test_a_step_of_256_tiny_gradings_costs_milliseconds(make_pool) -> None:
    pool = make_pool(fn="countdown")
    tasks = [Task("8 * 7 = 56 , 56 - 3 = 53", "53", {"numbers": [8, 7, 3]})] * 256
    seconds = []
    for _ in range(10):
        begin = time.perf_counter()
        grades = asyncio.run(pool.grade(tasks))
        seconds.append(time.perf_counter() - begin)
    assert all(g.reward == 1.0 for g in grades)
    assert min(seconds) < 0.05, "4 ms when measured on two busy cores"
