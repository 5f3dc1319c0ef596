"""Descriptions of processes: what is wrong is found where it is written, and named."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.errors import ConfigError
from pool.planning.health import HealthPolicy
from pool.planning.restart import RestartPolicy
from pool.process.fill import Fill
from pool.process.probes import file, function, http, log, tcp
from pool.process.spec import Liveness, Process, resolve


def a_process(**settings: Any) -> Process:
    return Process(**{"argv": ["serve", "--fast"], **settings})


def test_a_description_has_sensible_defaults_and_can_be_sent() -> None:
    process = Process(["/opt/engine/bin/serve", Fill("--port={http}")], ports=["http"])
    assert process.name == "serve"
    assert process.argv == ("/opt/engine/bin/serve", Fill("--port={http}"))
    assert (process.devices, process.restart, process.ready) == (None, None, None)
    full = a_process(
        name="engine-1.a",
        env={"A": "b", "C": Fill("{A}")},
        ports=("http",),
        ready=http("/health", port="http", json={"ok": True}),
        alive=Liveness(tcp("http"), HealthPolicy(failures=1)),
        restart=RestartPolicy(intensity=1),
        cwd="/tmp",
    )
    for one in (process, full):
        assert pickle.loads(pickle.dumps(one)) == one


def test_one_text_is_no_argv_and_the_message_says_what_makes_one() -> None:
    with pytest.raises(ConfigError, match=r"'vllm serve'.*shlex\.split") as refusal:
        Process("vllm serve")
    assert refusal.value.field == "argv"


@pytest.mark.parametrize(
    ("settings", "field", "words"),
    [
        ({"argv": []}, "argv", "give a list of the program"),
        ({"argv": [""]}, "argv", "the program first"),
        ({"argv": ["a", 3]}, "argv", "holds 3; give a str"),
        ({"argv": ["a\0b"]}, "argv", "without NUL"),
        ({"argv": [Fill("{X}")]}, "name", "give one, since argv begins with a Fill"),
        ({"name": "a b"}, "name", "name is 'a b'; give 1 to 100"),
        ({"name": ".."}, "name", "the first no '.'"),
        ({"name": 3}, "name", "name is 3"),
        ({"env": ["A=b"]}, "env", "give a dict"),
        ({"env": {"A=": "b"}}, "env", "without '='"),
        ({"env": {"A": 1}}, "env", "has a int for 'A'"),
        ({"cwd": ""}, "cwd", "give a path"),
        ({"cwd": 3}, "cwd", "give a path"),
        ({"devices": -1}, "devices", "devices is -1; give a whole number"),
        ({"devices": True}, "devices", "devices is True"),
        ({"ports": "http"}, "ports", "give a list of names"),
        ({"ports": ["a", "a"]}, "ports", "each name once"),
        ({"ports": ["1a"]}, "ports", "names '1a'"),
        ({"ports": ["address"]}, "ports", "none called 'address'"),
        ({"ready": "tcp"}, "ready", "give a probe"),
        ({"ready": tcp("http")}, "ready", r"asks for the port 'http'; .* is \(\)"),
        ({"ready_timeout_s": 0}, "ready_timeout_s", "is 0; give more than 0 seconds"),
        ({"ready_timeout_s": True}, "ready_timeout_s", "is True"),
        ({"alive": tcp(80)}, "alive", r"give Liveness\(probe\)"),
        ({"alive": Liveness(http("/", port="web"))}, "alive", "the port 'web'"),
        ({"restart": 3}, "restart", "a RestartPolicy, or None for never"),
        ({"grace_s": -1}, "grace_s", "is -1; give 0 or more seconds"),
        ({"grace_s": float("inf")}, "grace_s", "is inf"),
        ({"log": 10}, "log", "give a LogLimit"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_by_its_field(
    settings: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as refusal:
        a_process(**settings)
    assert refusal.value.field == field


def test_a_secret_in_the_environment_is_not_shown_in_an_error() -> None:
    with pytest.raises(ConfigError) as refusal:
        a_process(env={"TOKEN": b"secret"})
    assert "secret" not in str(refusal.value)


def test_a_log_line_tells_nothing_of_now_and_is_refused_as_liveness() -> None:
    with pytest.raises(ConfigError, match="stays true once it was"):
        Liveness(log("ready"))
    with pytest.raises(ConfigError, match="give a probe"):
        Liveness("ready")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give a HealthPolicy"):
        Liveness(tcp(80), 3)  # type: ignore[arg-type]
    assert Liveness(file("/tmp/beat")).policy == HealthPolicy()
    assert Liveness(function(bool)).probe == function(bool)


def test_what_only_the_node_knows_is_filled_in_there() -> None:
    process = Process(
        ["serve", Fill("--at={address}:{http}"), Fill("{NODE}/{OWN}/{{}}")],
        env={"OWN": Fill("own-{NODE}-{http}"), "NODE": "mine"},
        ports=["http"],
    )
    environment = {"NODE": "n1", "PATH": "/bin"}
    resolved = resolve(process, environment=environment, ports={"http": 81}, address="10.0.0.1")
    assert resolved.argv == ("serve", "--at=10.0.0.1:81", "mine/own-n1-81/{}")
    assert resolved.env == {"NODE": "mine", "PATH": "/bin", "OWN": "own-n1-81"}


def test_a_gap_that_nothing_fills_is_told_with_what_there_is() -> None:
    process = a_process(argv=["serve", Fill("{nowhere}")], ports=["http"])
    with pytest.raises(ConfigError, match=r"argv\[1\].*'nowhere'.*there are: HOME, address, http"):
        resolve(process, environment={"HOME": "/"}, ports={"http": 1}, address="::1")
    with pytest.raises(ConfigError, match=r"give one for \['http'\]") as refusal:
        resolve(process, environment={}, ports={}, address="::1")
    assert refusal.value.field == "ports"
    process = a_process(env={"A": Fill("{B}")})
    with pytest.raises(ConfigError, match=r"env\['A'\]") as refusal:
        resolve(process, environment={}, ports={}, address="::1")
    assert refusal.value.field == "env"


@pytest.mark.parametrize(
    "template", ["{", "}", "{}", "{a.b}", "{a[0]}", "{a!r}", "{a:>3}", "{a b}"]
)
def test_a_gap_holds_a_name_and_nothing_else(template: str) -> None:
    with pytest.raises(ConfigError, match="template is") as refusal:
        Fill(template)
    assert refusal.value.field == "template"


@given(st.lists(st.tuples(st.text(), st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]*", fullmatch=True))))
def test_filling_is_the_inverse_of_cutting_gaps(parts: list[tuple[str, str]]) -> None:
    template = "".join(
        text.replace("{", "{{").replace("}", "}}") + f"{{{name}}}" for text, name in parts
    )
    values = {name: f"<{name}>{{x}}" for _, name in parts}
    assert Fill(template).names == tuple(name for _, name in parts)
    assert Fill(template).fill(values) == "".join(text + values[name] for text, name in parts)
