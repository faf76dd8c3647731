"""Which computers reach the annotation page, by which addresses, and what that demands: logins and TLS."""

import argparse
import ipaddress
import re
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from dal.annotate.certificates import tls_of
from dal.annotate.person_names import people_of
from dal.annotate.request_guard import is_local
from dal.errors import ConfigError, shown

LOOPBACK = "127.0.0.1"

# A name of letters, digits, hyphens and points, or an address; in brackets one of IPv6. Then possibly a port.
_HOST = re.compile(r"(?P<name>[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?|\[[0-9a-f:.]+\])(:(?P<port>\d{1,5}))?")
_LOGINS = "a login per person (--people ana,ben)"
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Network:
    """Where the annotation page is served, and for which people.

    Attributes:
        address: address of this computer on which the server listens.
        people: everybody who may enter by a login; none if a link opens the page.
        adjudicators: who of them may settle disputes, change classes and read all answers.
        tls: settings for TLS; None without.
        behind_proxy: whether a proxy adds TLS.
        named: hosts that are accepted besides those of the address, each with its port if it has one.
        certified: hosts that the certificate is for.
    """

    address: str = LOOPBACK
    people: tuple[str, ...] = ()
    adjudicators: tuple[str, ...] = ()
    tls: ssl.SSLContext | None = None
    behind_proxy: bool = False
    named: tuple[str, ...] = ()
    certified: tuple[str, ...] = ()

    @property
    def scheme(self) -> str:
        """Scheme of the addresses that people open."""
        return "https" if self.tls is not None or self.behind_proxy else "http"

    def hosts(self, port: int) -> list[str]:
        """The values of `Host` that are accepted by a server on a port, the one for links first."""
        found = []
        for each in self.named:
            bare = not re.search(r":\d+$", each)
            if bare and not self.behind_proxy:
                found.append(f"{each}:{port}")
            if not bare or self.behind_proxy or port == _PORTS[self.scheme]:
                found.append(each)
        if not self.behind_proxy:
            own = [] if ipaddress.ip_address(self.address).is_unspecified else [_bracketed(self.address)]
            local = [LOOPBACK, "localhost", *(["[::1]"] if ":" in self.address else [])]
            found += [f"{name}:{port}" for name in [*self.certified, *own, *local]]
        default = f":{_PORTS[self.scheme]}"  # browsers leave it out
        return list(dict.fromkeys(host.removesuffix(default) for host in found))

    def origin(self, port: int) -> str:
        """Address that is shown to people, without a path."""
        return f"{self.scheme}://{self.hosts(port)[0]}"


def network_of(options: argparse.Namespace) -> Network:
    """Read the options of `dal annotate` that concern other computers, and check that they make a safe whole.

    Raises:
        ConfigError: something is missing, impossible or too open; the message says what to type.
    """
    host = LOOPBACK if options.host is None else options.host
    secure = options.certfile is not None or options.behind_proxy
    if options.behind_proxy and (options.certfile or options.keyfile):
        raise ConfigError("either --behind-proxy, where the proxy has the certificate, or --certfile and --keyfile")
    if (options.certfile is None) != (options.keyfile is None):
        absent = "--keyfile FILE, its private key" if options.keyfile is None else "--certfile FILE, the certificate"
        raise ConfigError(f"TLS needs {absent}, too")
    if options.people and options.who:
        raise ConfigError("--who is the name of a single person: leave it out, and name everybody in --people")
    people = people_of(options.people) if options.people else ()
    adjudicators = people_of(options.adjudicators) if options.adjudicators else people[:1]
    others = [name for name in adjudicators if name not in people]
    if others:
        raise ConfigError(f"--adjudicators must be among --people: {shown(others[0])} is not")
    address = _resolved(host)
    is_open = not ipaddress.ip_address(address).is_loopback
    named = tuple(_host(each) for each in options.allow_host or ())
    missing: list[str] = [] if people else [_LOGINS]
    if not secure:
        missing.append("TLS (--certfile FILE --keyfile FILE, or --behind-proxy)")
    if is_open and missing:
        raise ConfigError(f"--host {host} lets other computers in, which needs {' and '.join(missing)}")
    if options.behind_proxy:
        needed = [] if people else [_LOGINS]
        needed += [] if named else ["the name that people open (--allow-host label.example.org)"]
        if needed:
            raise ConfigError(f"--behind-proxy needs {' and '.join(needed)}")
    foreign = [each for each in named if not secure and not is_local(each)]
    if foreign:
        raise ConfigError(
            f"--allow-host {foreign[0]} is another computer's, and TLS is missing: add --behind-proxy, or --certfile "
            "and --keyfile; for a tunnel name the end on this side, as in --allow-host 127.0.0.1:9000"
        )
    tls, certified = None, list[str]()
    if options.certfile is not None:
        tls, certified = tls_of(Path(options.certfile), Path(options.keyfile))
        if ipaddress.ip_address(address).is_unspecified and not certified and not named:
            raise ConfigError("the certificate names no host: add the name that people open, as in --allow-host NAME")
    return Network(address, people, adjudicators, tls, options.behind_proxy, named, tuple(certified))


def _resolved(host: str) -> str:
    """The numeric address of a host."""
    try:
        found = socket.getaddrinfo(host or None, 0, type=socket.SOCK_STREAM)[0][4][0] if host else ""
    except (OSError, UnicodeError):
        found = ""
    if not found or "%" in str(found):
        raise ConfigError(
            f"--host {shown(host)} is no address of this computer: use one of its own, or 0.0.0.0 for all"
        )
    return str(found)


def _host(given: str) -> str:
    """A value of `--allow-host` as browsers write it."""
    text = given.strip().lower()
    if not text.isascii():
        try:
            name, colon, port = text.partition(":")
            text = name.encode("idna").decode() + colon + port
        except UnicodeError:
            text = ""
    found = _HOST.fullmatch(text)
    is_host = found is not None and (found["port"] is None or 0 < int(found["port"]) < 2**16)
    if found is not None and found["name"].startswith("["):
        try:
            address = ipaddress.IPv6Address(found["name"][1:-1])
            text = f"[{address}]" + (f":{found['port']}" if found["port"] else "")
        except ValueError:
            is_host = False
    if not is_host:
        raise ConfigError(f"--allow-host takes a name, or NAME:PORT, such as label.example.org, not {shown(given)}")
    return text


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
