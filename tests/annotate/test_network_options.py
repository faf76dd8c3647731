"""Options that let other computers in: what they demand, and which addresses they accept."""

import argparse
import socket
from typing import Any

import pytest
from page_server import TLS

from dal.annotate.network_options import Network, network_of
from dal.annotate.server import listen
from dal.errors import ConfigError

CERTIFIED = {"certfile": TLS / "server.pem", "keyfile": TLS / "server-key.pem"}


def network(**given: Any) -> Network:
    options = {
        "host": "127.0.0.1",
        "people": None,
        "adjudicators": None,
        "who": None,
        "certfile": None,
        "keyfile": None,
        "behind_proxy": False,
        "allow_host": None,
    }
    return network_of(argparse.Namespace(**options | given))


def test_one_person_on_this_computer_needs_nothing() -> None:
    plain = network()
    assert (plain.people, plain.scheme, plain.tls) == ((), "http", None)
    assert plain.hosts(8765) == ["127.0.0.1:8765", "localhost:8765"]
    assert plain.origin(8765) == "http://127.0.0.1:8765"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_computers_need_logins_and_tls(host: str) -> None:
    with pytest.raises(ConfigError, match=r"needs a login per person .*--people.* and TLS \(--certfile"):
        network(host=host)
    with pytest.raises(ConfigError, match="needs a login per person") as caught:
        network(host=host, **CERTIFIED)
    assert "TLS" not in str(caught.value)
    with pytest.raises(ConfigError, match="needs TLS") as caught:
        network(host=host, people="ana")
    assert "login" not in str(caught.value)
    assert network(host=host, people="ana", **CERTIFIED).scheme == "https"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"certfile": TLS / "server.pem"}, "TLS needs --keyfile"),
        ({"keyfile": TLS / "server-key.pem"}, "TLS needs --certfile"),
        ({"behind_proxy": True, **CERTIFIED}, "either --behind-proxy"),
        ({"behind_proxy": True}, "needs a login per person .* and the name that people open"),
        ({"behind_proxy": True, "people": "ana"}, "needs the name that people open"),
        ({"behind_proxy": True, "allow_host": ["x.org"]}, "needs a login per person"),
        ({"people": "ana", "who": "ben"}, "--who is the name of a single person"),
        ({"people": "ana", "adjudicators": "ben"}, "--adjudicators must be among --people: 'ben' is not"),
        ({"adjudicators": "ben"}, "--adjudicators must be among --people"),
        ({"people": "ana,ANA"}, "looks like 'ana'"),
        ({"host": "no such host"}, "is no address of this computer"),
        ({"host": ""}, "is no address of this computer"),
        ({"allow_host": ["label.example.org"]}, "is another computer's, and TLS is missing"),
        ({"allow_host": ["127.0.0.1.evil.example:80"]}, "is another computer's, and TLS is missing"),
    ],
)
def test_what_is_missing_or_too_open_is_one_line(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        network(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "*",
        "*.example.org",
        "https://x.org",
        "x.org/",
        "x.org:0",
        "x.org:99999",
        "a b",
        "x:",
        "[::1",
        "[x]",
        "@",
    ],
)
def test_host_that_browsers_do_not_send_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="--allow-host takes a name"):
        network(behind_proxy=True, people="ana", allow_host=[host])


def test_hosts_of_a_proxy_are_only_those_that_are_named() -> None:
    names = ["Label.Example.org", "label.example.org:443", "[2001:DB8:0::1]:8443", "bücher.example"]
    behind = network(behind_proxy=True, people="ana", allow_host=names)
    assert behind.hosts(8765) == ["label.example.org", "[2001:db8::1]:8443", "xn--bcher-kva.example"]
    assert behind.origin(8765) == "https://label.example.org"


def test_hosts_of_tls_are_those_of_the_certificate_and_the_address() -> None:
    served = network(host="0.0.0.0", people="ana,ben", **CERTIFIED)
    assert served.hosts(8443) == ["label.test:8443", "localhost:8443", "127.0.0.1:8443", "[::1]:8443"]
    assert served.hosts(443)[0] == "label.test"  # browsers leave the port out
    assert served.adjudicators == ("ana",)
    named = network(host="0.0.0.0", people="ana,ben", adjudicators="ben", allow_host=["lab"], **CERTIFIED)
    assert named.hosts(8443)[:2] == ["lab:8443", "label.test:8443"]
    assert named.adjudicators == ("ben",)
    nameless = {"certfile": TLS / "nameless.pem", "keyfile": TLS / "nameless-key.pem"}
    with pytest.raises(ConfigError, match="the certificate names no host: add the name"):
        network(host="0.0.0.0", people="ana", **nameless)
    assert network(host="0.0.0.0", people="ana", allow_host=["lab:9"], **nameless).origin(8443) == "https://lab:9"


def test_tunnel_with_another_port_on_this_side_is_named() -> None:
    tunnel = network(allow_host=["127.0.0.1:9000", "localhost:9000", "[::1]:9000"])
    assert tunnel.origin(8765) == "http://127.0.0.1:9000"
    assert "127.0.0.1:8765" in tunnel.hosts(8765)


def test_address_of_version_6_is_served() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    served = network(host="::1")
    assert (served.address, served.origin(8765)) == ("::1", "http://[::1]:8765")
    try:
        listening = listen(0, "::1")
    except ConfigError:
        pytest.skip("this computer has no IPv6 address")
    with listening, pytest.raises(ConfigError, match="is in use by another program: choose one with --port"):
        listen(listening.getsockname()[1], "::1")
    with listen(0, "::") as both:  # also reached by version 4
        socket.create_connection(("127.0.0.1", both.getsockname()[1])).close()


def test_address_of_another_computer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--host 192\.0\.2\.7 is no address of this computer"):
        listen(0, "192.0.2.7")
