"""Looking at a cluster from a process that is none of its drivers."""

from __future__ import annotations

import contextlib
import socket

import pytest
import ray
from ray.exceptions import AuthenticationError

from pool.cluster.ray import observer, private
from pool.errors import ConfigError


def test_a_cluster_that_wants_a_token_says_so_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look_at(address: str) -> None:
        raise AuthenticationError("the token is missing")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(private, "look_at", look_at)
    with contextlib.closing(socket.create_server(("", 0))) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(ConfigError, match=r"does not let this process in: the token is"):
            observer.observe(address)
