"""Joining a Ray cluster: one that is dead is named at once, instead of being waited for."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from actors.runtime.cluster import connect, refuse_without_token
from uec.errors import BadInput


def test_a_dead_cluster_is_named_with_where_its_address_comes_from(make_config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was asked"))
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(BadInput, match=r"RAY_ADDRESS names 127.0.0.1:1, where nothing answers .*cluster\.address=local"):
        connect(make_config(), "uec-test")
    with pytest.raises(BadInput, match=r"cluster\.address names 127.0.0.1:2"):
        connect(make_config("cluster.address=127.0.0.1:2"), "uec-test")


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of somebody who answers; a home without a token, and nothing said of tokens."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "tmp"))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS"):
        monkeypatch.setenv(name, "")  # so that what is set in a test goes with it
        monkeypatch.delenv(name)
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refuses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have every cluster refuse its clients; the addresses that are asked."""
    asked: list[str] = []

    def client(address: str) -> None:
        asked.append(address)
        raise ray.exceptions.AuthenticationError("InvalidAuthToken")

    monkeypatch.setattr("actors.runtime.cluster.GcsClient", client)
    monkeypatch.setattr("ray.init", lambda *_, **__: pytest.fail("Ray was asked"))
    return asked


def test_a_client_without_token_mode_or_with_another_token_learns_which_it_is(make_config, address, tmp_path, monkeypatch) -> None:
    asked = refuses(monkeypatch)
    cfg = make_config(f"cluster.address={address}")
    with pytest.raises(BadInput, match=r"it wants a token\. Copy .*auth_token.* with RAY_AUTH_MODE=token"):
        connect(cfg, "uec-test")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5ec7e7" * 8)
    with pytest.raises(BadInput, match="Set RAY_AUTH_MODE=token to show it the one that is here: .*RAY_AUTH_TOKEN"):
        connect(cfg, "uec-test")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(BadInput, match="another token than the one here") as refused:
        connect(cfg, "uec-test")
    assert asked == [address] * 3 and "5ec7e7" not in str(refused.value)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    # Without a token Ray's client would end the process with a stack trace.
    with pytest.raises(BadInput, match="RAY_AUTH_MODE=token, and there is no token here"):
        connect(cfg, "uec-test")
    assert len(asked) == 3


def test_a_token_is_shown_unasked_to_a_cluster_that_was_found_here_and_to_no_other(make_config, address, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("actors.runtime.cluster.GcsClient", lambda address: None)
    monkeypatch.setenv("RAY_AUTH_TOKEN", "5ec7e7" * 8)
    refuse_without_token(make_config(f"cluster.address={address}"))
    assert "RAY_AUTH_MODE" not in os.environ
    found = tmp_path / "tmp/ray/ray_current_cluster"
    found.parent.mkdir(parents=True)
    found.write_text(address)
    refuse_without_token(make_config())
    assert os.environ["RAY_AUTH_MODE"] == "token"
    monkeypatch.delenv("RAY_AUTH_MODE")


def test_no_cluster_is_asked_if_the_run_starts_one(make_config, address, monkeypatch) -> None:
    asked = refuses(monkeypatch)
    refuse_without_token(make_config("cluster.address=local"))
    refuse_without_token(make_config())
    assert asked == []
