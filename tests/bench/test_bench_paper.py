"""`uec bench paper`: values computed by hand, and the table of the docs is the computed one."""

from pathlib import Path

import pytest

from bench import paper
from bench.paper import Gpu, Model, Work

ROUND = Gpu(flops=1e15, memory=2e12, network=1e10, mfu=0.5, prefill=0.5, reached=0.5)
SMALL = Model(parameters=1e10, cache=1e5)
WORK = Work(prompt=1000, response=2000, responses=10.0, kept=0.5, groups=1.0)


def test_a_decoding_step_reads_weights_and_cache_once_or_is_bound_by_arithmetic():
    # (20 GB + 100 x 2000 tokens x 100 kB) / 1 TB/s = 40 ms, against 2 x 10^10 x 100 / 5 x 10^14 = 4 ms
    assert paper.decode_s(100, ROUND, SMALL, WORK) == pytest.approx(0.040 + 0.003)
    # No cache: 20 ms of weights, against 2 x 10^10 x 1000 / 5 x 10^14 = 40 ms
    assert paper.decode_s(1000, ROUND, Model(1e10, 0.0), WORK) == pytest.approx(0.040 + 0.003)


def test_learning_takes_its_arithmetic_or_the_traffic_of_the_weights():
    # 10 prompts: 10 x (1000 + 10 x .5 x 2000) = 110,000 tokens on one rank; 8 x 10^10 x 110,000 / 5 x 10^14 = 17.6 s;
    # seven micro-batches move 3 x 20 GB at 5 GB/s: 84 s
    assert paper.learn_s(1, 10, ROUND, SMALL, WORK) == pytest.approx(84.0)
    fast = Gpu(flops=1e15, memory=2e12, network=1e12, mfu=0.5, prefill=0.5, reached=0.5)
    assert paper.learn_s(1, 10, fast, SMALL, WORK) == pytest.approx(17.6)


def test_weights_are_gathered_and_broadcast_once_whatever_the_number_of_engines():
    assert paper.weight_sync_s(ROUND, SMALL) == pytest.approx(8.0)  # 2 x 20 GB at 5 GB/s


def test_a_step_is_the_slowest_overlapping_part_and_the_weight_sync():
    one = paper.split(64, 1024)
    assert one.step == max(one.generate, one.learn) + one.weight_sync
    assert one.controller == pytest.approx(1024 * 4 / 3 * paper.GROUP_S)
    assert paper.split(512, 8192).controller == pytest.approx(8 * one.controller)


def test_the_table_of_the_docs_is_what_this_file_computes(project: Path):
    assert paper.table() in (project / "docs/performance.md").read_text()
