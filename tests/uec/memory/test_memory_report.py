"""A run that cannot fit into this machine is refused before any actor starts."""

import pytest

from uec.errors import BadInput
from uec.memory.memory_report import check_host


def test_a_run_that_typically_needs_more_than_this_machine_has_is_refused_with_its_largest_part(make_config) -> None:
    check_host(make_config(), 24 * 2**30, [12])
    with pytest.raises(BadInput, match=r"^this machine's memory: it needs .* and 24.0 GiB are available; .*; the largest part is engine, "):
        check_host(make_config("rollout.kv_cache_mb=40000"), 24 * 2**30, [12])
    with pytest.raises(BadInput, match="the largest part is grader, 15.9 GiB: grading processes 15.9 GiB"):
        check_host(make_config("reward.processes=250"), 8 * 2**30, [12])
