"""Certificate and key of a server: read and checked before anybody connects."""

import ipaddress
import ssl
from pathlib import Path

from dal.errors import ConfigError, one_line
from dal.store.atomic_files import named

_REASONS = {9: "is not valid yet", 10: "has expired"}  # codes of OpenSSL's verification
_ROUNDS = 20  # of a handshake, which takes three


class _PasswordNeededError(Exception):
    """A key is encrypted."""


def tls_of(certfile: Path, keyfile: Path) -> tuple[ssl.SSLContext, list[str]]:
    """Read a certificate and its key, and try them in a handshake in memory.

    Args:
        certfile: PEM file with the certificate of the server first, then those of its issuers.
        keyfile: PEM file with its private key, without a password.

    Returns:
        The settings of a server for TLS 1.2 and later, and the hosts that the certificate is for: names, addresses,
        and IPv6 addresses in brackets, without wildcards.

    Raises:
        ConfigError: a file cannot be read, both do not belong together, or the certificate is not valid now.
    """
    for file in (certfile, keyfile):
        try:
            file.open("rb").close()
        except OSError as error:
            raise ConfigError(f"{named(file)} cannot be read: {error.strerror}") from None
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the certificate is trusted, not only its issuer
    try:
        client.load_verify_locations(certfile)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"{named(certfile)} holds no certificate in the PEM format") from None
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        server.load_cert_chain(certfile, keyfile, password=_refuse_password)
    except _PasswordNeededError:
        raise ConfigError(
            f"the key in {named(keyfile)} needs a password: write it without one, with openssl pkey -in "
            f"{named(keyfile)} -out key.pem"
        ) from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"the key in {named(keyfile)} does not belong to {named(certfile)}") from None
        if error.reason and error.reason.endswith("TOO_SMALL"):
            raise ConfigError(f"the key of {named(certfile)} is too short: make one of 2,048 bits") from None
        raise ConfigError(f"{named(keyfile)} holds no private key in the PEM format") from None
    return server, _hosts_in(_shown_certificate(client, server, certfile))


def _refuse_password() -> str:
    raise _PasswordNeededError


def _shown_certificate(client: ssl.SSLContext, server: ssl.SSLContext, certfile: Path) -> dict[str, object]:
    """The certificate as a client sees it.

    Raises:
        ConfigError: the client refuses it.
    """
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    visitor = client.wrap_bio(to_client, to_server)
    host = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(_ROUNDS):
        waiting = False
        for side in (visitor, host):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waiting = True
            except ssl.SSLCertVerificationError as error:
                reason = _REASONS.get(error.verify_code, f"cannot be used: {error.verify_message}")
                raise ConfigError(f"the certificate in {named(certfile)} {reason}") from None
            except ssl.SSLError as error:
                raise ConfigError(f"the certificate in {named(certfile)} cannot be used: {one_line(error)}") from None
        if not waiting:
            break
    return dict(visitor.getpeercert() or {})


def _hosts_in(certificate: dict[str, object]) -> list[str]:
    hosts = []
    names = certificate.get("subjectAltName")
    for kind, name in names if isinstance(names, tuple) else ():
        if kind == "DNS" and "*" not in name:
            hosts.append(name.lower().rstrip("."))
        elif kind == "IP Address":
            address = ipaddress.ip_address(name)
            hosts.append(f"[{address}]" if address.version == 6 else str(address))
    return hosts
