"""The download of a model comes before the actors, on each node of the cluster; Ray and the hub have stand-ins."""

from collections.abc import Callable
from typing import Any

import pytest

from actors.runtime import cluster
from uec.config.schema import Config
from uec.errors import BadInput


class Task:
    """In the place of a Ray task: it runs at once, and records the node that it was sent to."""

    def __init__(self, function: Callable[..., Any], sent: list[str]) -> None:
        self.function = function
        self.sent = sent

    def options(self, scheduling_strategy: Any) -> "Task":
        assert not scheduling_strategy.soft
        self.sent.append(scheduling_strategy.node_id)
        return self

    def remote(self, *args: Any) -> Any:
        return self.function(*args)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the nodes that tasks were sent to, in a cluster of three nodes, one of which has died; the driver is on aa."""
    found: list[str] = []
    nodes = [{"NodeID": name * 28, "NodeManagerAddress": f"10.0.0.{i}", "Alive": name != "cc"} for i, name in enumerate(("aa", "bb", "cc"))]
    monkeypatch.setattr(cluster.ray, "nodes", lambda: nodes)
    monkeypatch.setattr(cluster.ray, "get_runtime_context", lambda: type("Here", (), {"get_node_id": lambda self: "aa" * 28})())
    monkeypatch.setattr(cluster.ray, "remote", lambda **options: lambda function: Task(function, found))
    monkeypatch.setattr(cluster.ray, "get", lambda value: value)
    return found


def test_each_other_node_downloads_after_the_driver(make_config: Callable[..., Config], sent: list[str], monkeypatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(cluster, "download_model", lambda model: asked.append(list(sent)) or True)
    cluster.fetch_model(make_config("model.path=some/model"))
    assert asked == [[], ["bb" * 28]] and sent == ["bb" * 28]


def test_a_folder_is_fetched_nowhere(make_config: Callable[..., Config], sent: list[str]) -> None:
    cluster.fetch_model(make_config())
    assert sent == []


def test_a_node_that_fails_is_named(make_config: Callable[..., Config], sent: list[str], monkeypatch) -> None:
    def get(value: Any) -> Any:
        raise cluster.ray.exceptions.RayError("its disk is full")

    monkeypatch.setattr(cluster, "download_model", lambda model: True)
    monkeypatch.setattr(cluster.ray, "get", get)
    with pytest.raises(BadInput, match=r"node 10.0.0.1 of the Ray cluster is not ready: its disk is full"):
        cluster.fetch_model(make_config("model.path=some/model"))
