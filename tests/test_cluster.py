"""Joining a Ray cluster: one that is dead is named at once, instead of being waited for."""

import pytest

from actors.cluster import connect
from uec.errors import BadInput


def test_a_dead_cluster_is_named_with_where_its_address_comes_from(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was asked"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(BadInput, match=r"RAY_ADDRESS names 127.0.0.1:1, where nothing answers .*cluster\.address=local"):
        connect(make_config(), "uec-test")
    with pytest.raises(BadInput, match=r"cluster\.address names 127.0.0.1:2"):
        connect(make_config("cluster.address=127.0.0.1:2"), "uec-test")
