"""Certificates and keys: what is wrong with them is said in one line before the server starts.

The files of `fixtures/tls` are for tests only: `server.pem` is for label.test, localhost, 127.0.0.1 and ::1 until 2126.
"""

import ssl
from pathlib import Path

import pytest
from page_server import TLS

from dal.annotate.certificates import tls_of
from dal.errors import ConfigError


def test_certificate_gives_its_hosts_and_modern_tls() -> None:
    settings, hosts = tls_of(TLS / "server.pem", TLS / "server-key.pem")
    assert hosts == ["label.test", "localhost", "127.0.0.1", "[::1]"]  # no wildcard
    assert settings.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls_of(TLS / "nameless.pem", TLS / "nameless-key.pem")[1] == []


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        ("expired.pem", "server-key.pem", "expired.pem has expired"),
        ("not-yet-valid.pem", "server-key.pem", "not-yet-valid.pem is not valid yet"),
        ("server.pem", "locked-key.pem", "needs a password: write it without one, with openssl pkey -in"),
        ("server.pem", "nameless-key.pem", "does not belong to"),
        ("server.pem", "server.pem", "server.pem holds no private key in the PEM format"),
        ("server-key.pem", "server-key.pem", "server-key.pem holds no certificate in the PEM format"),
        ("nothing.pem", "server-key.pem", "nothing.pem cannot be read: No such file"),
        ("server.pem", "nothing.pem", "nothing.pem cannot be read: No such file"),
        ("server.pem", ".", "cannot be read: Is a directory"),
    ],
)
def test_what_is_wrong_is_one_line(certificate: str, key: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        tls_of(TLS / certificate, TLS / key)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_certificate_that_is_followed_by_its_issuer_is_accepted(tmp_path: Path) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes((TLS / "server.pem").read_bytes() + (TLS / "expired.pem").read_bytes())
    assert tls_of(chain, TLS / "server-key.pem")[1][0] == "label.test"


def test_empty_files_are_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()
    with pytest.raises(ConfigError, match="holds no certificate"):
        tls_of(empty, TLS / "server-key.pem")
    with pytest.raises(ConfigError, match="holds no private key"):
        tls_of(TLS / "server.pem", empty)
