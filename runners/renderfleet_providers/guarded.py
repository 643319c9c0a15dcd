"""The client for addresses that a user or a vendor gives us. It decides whether we may connect, and to which IP.

Refused before any packet leaves: other schemes than https, other ports than 443, user@host, odd spellings of numbers,
hosts with any address that is not public. The connection then goes to the very address that was checked, with the
name's SNI and Host, so a DNS answer that changes in between (rebinding) changes nothing. Each redirect is a new
address and passes all of this again. Bytes and time are capped.

An origin that the administrator configured (a provider's base URL) is trusted: a stand-in inside the cluster is
private by nature and speaks http.
"""

import asyncio
import hashlib
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2

CONNECT_TIMEOUT_SECONDS = 10.0
CHUNK_BYTES = 1 << 16

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]


class GuardedError(Exception):
    """A guarded request failed; `code` is stable, the message names no path or query, which may be secret."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class AddressRefused(GuardedError):
    """We do not connect there, now or later."""


class FetchFailed(GuardedError):
    """We would have, but it did not work; another time it may."""


class TooLarge(GuardedError):
    """The answer is longer than allowed."""


class StatusRefused(FetchFailed):
    """The server answered with another status than success."""

    def __init__(self, status: int) -> None:
        super().__init__(f"http_{status}", f"the address answered with status {status}")
        self.status = status


# Lists of our own: `is_global` has been wrong in several Python releases (CVE-2024-4032).
# Source: IANA special-purpose address registries, IPv4 and IPv6.
_NOT_PUBLIC_V4 = [
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "168.63.129.16/32",  # Azure's metadata and agent address, public by number only
    )
]
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = [
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
]


def is_public(address: IPAddress) -> bool:
    """Whether an address belongs to the internet at large; addresses that wrap another (mapped, 6to4, NAT64) do not."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return False
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        return address in _PUBLIC_V6 and not any(address in net for net in _NOT_PUBLIC_V6)
    return not any(address in net for net in _NOT_PUBLIC_V4)


async def resolve(host: str, port: int) -> list[str]:
    """All addresses of a name, as the machine's resolver gives them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A body that was stored."""

    bytes: int
    sha256: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A body that was kept in memory."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    scheme: str
    host: str
    port: int
    path: str
    trusted: bool

    @property
    def host_header(self) -> str:
        shown = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"https": 443, "http": 80}[self.scheme]
        return shown if self.port == usual else f"{shown}:{self.port}"


def origin_of(url: str) -> str:
    """`scheme://host:port` of an administrator's URL, port always written. Raises ValueError when it has no host."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) URL")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


_HOST_NAME = re.compile(
    r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*"
)
_LAST_LABEL_IS_A_NUMBER = re.compile(r"(.*\.)?(0x[0-9a-f]*|[0-9]+)")


@dataclass(frozen=True)
class GuardedClient:
    """Fetches from, and posts to, addresses that are not ours. One object serves many calls; it keeps no connections."""

    trusted_origins: frozenset[str] = frozenset()
    """As `origin_of` writes them."""
    allowed_hosts: frozenset[str] | None = None
    """When set, only these names; a name that starts with a dot allows all below it."""
    max_redirects: int = 0
    port: int = 443
    resolver: Resolver = resolve
    may_connect_to: Callable[[IPAddress], bool] = is_public
    ssl_context: ssl.SSLContext | None = field(default=None, repr=False)

    @classmethod
    def trusting(cls, urls: Iterable[str], *, max_redirects: int = 0) -> "GuardedClient":
        """A client that also reaches the origins of an administrator's URLs."""
        return cls(trusted_origins=frozenset(origin_of(url) for url in urls), max_redirects=max_redirects)

    def check(self, url: str) -> None:
        """Raise AddressRefused when this URL would be refused for how it is written. No name is resolved."""
        self._parse(url)

    async def fetch_to_file(self, url: str, file: Path, *, max_bytes: int, total_seconds: float) -> Fetched:
        """GET into `file`. Raises AddressRefused, TooLarge or FetchFailed; a partial file may then be left."""
        digest = hashlib.sha256()
        size = 0
        async with self._within(total_seconds), self._open("GET", url) as response:
            if not response.is_success:
                raise StatusRefused(response.status_code)
            _check_announced(response, max_bytes)
            with file.open("wb") as target:
                async for chunk in response.aiter_raw(CHUNK_BYTES):
                    size += len(chunk)
                    if size > max_bytes:
                        raise TooLarge("too_large", f"the answer is larger than {max_bytes} bytes")
                    digest.update(chunk)
                    target.write(chunk)
        return Fetched(size, digest.hexdigest(), response.headers.get("content-type", ""))

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        max_bytes: int = 1 << 16,
        total_seconds: float = 20.0,
    ) -> Answer:
        """Any request; a status that is no success is an answer, too. Raises AddressRefused, TooLarge or FetchFailed."""
        body = bytearray()
        async with self._within(total_seconds), self._open(method, url, headers, content) as response:
            _check_announced(response, max_bytes)
            async for chunk in response.aiter_raw(CHUNK_BYTES):
                body += chunk
                if len(body) > max_bytes:
                    raise TooLarge("too_large", f"the answer is larger than {max_bytes} bytes")
        return Answer(response.status_code, dict(response.headers), bytes(body))

    @asynccontextmanager
    async def _within(self, total_seconds: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(total_seconds):
                yield
        except TimeoutError as late:
            raise FetchFailed("timed_out", f"the address did not answer in full within {total_seconds:g} s") from late
        except httpx2.HTTPError as failed:
            raise FetchFailed("connection_failed", f"the connection failed ({type(failed).__name__})") from failed

    @asynccontextmanager
    async def _open(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, content: bytes | None = None
    ) -> AsyncIterator[httpx2.Response]:
        for _ in range(self.max_redirects + 1):
            target = self._parse(url)
            async with self._send(method, target, headers, content) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                url = urljoin(url, response.headers["location"])
        raise AddressRefused("redirected", "the address redirects to another, which is not followed")

    @asynccontextmanager
    async def _send(
        self, method: str, target: _Target, headers: Mapping[str, str] | None, content: bytes | None
    ) -> AsyncIterator[httpx2.Response]:
        addresses = [target.host] if target.trusted else await self._checked_addresses(target)
        verify = self._tls() if target.scheme == "https" else False
        async with httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(verify=verify, limits=httpx2.Limits(max_keepalive_connections=0)),
            timeout=httpx2.Timeout(None, connect=CONNECT_TIMEOUT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        ) as client:
            # Identity only: a small compressed body may unpack to anything.
            sent = {"accept-encoding": "identity", **(headers or {}), "host": target.host_header}
            for number, address in enumerate(addresses, start=1):
                shown = f"[{address}]" if ":" in address else address
                request = client.build_request(
                    method,
                    f"{target.scheme}://{shown}:{target.port}{target.path}",
                    headers=sent,
                    content=content,
                    extensions={"sni_hostname": target.host},
                )
                try:
                    response = await client.send(request, stream=True)
                except (httpx2.ConnectError, httpx2.ConnectTimeout):
                    if number == len(addresses):
                        raise
                    continue  # a cluster without IPv6 is still given IPv6 addresses
                try:
                    yield response
                finally:
                    await response.aclose()
                return

    def _tls(self) -> ssl.SSLContext | bool:
        return self.ssl_context if self.ssl_context is not None else True

    async def _checked_addresses(self, target: _Target) -> list[str]:
        """The addresses that may be connected to. All of a name must be fit: an attacker may offer several."""
        try:
            found = await self.resolver(target.host, target.port)
        except OSError as unknown:
            raise FetchFailed("name_not_found", "the address's host name cannot be resolved") from unknown
        if not found:
            raise FetchFailed("name_not_found", "the address's host name cannot be resolved")
        for text in found:
            try:
                fit = self.may_connect_to(ipaddress.ip_address(text))
            except ValueError:
                fit = False
            if not fit:
                raise AddressRefused("address_not_public", "the address's host is not on the public internet")
        return found

    def _parse(self, url: str) -> _Target:
        if len(url) > 8192 or not url.isascii() or re.search(r"[\s\\\x00-\x1f\x7f]", url):
            raise AddressRefused("bad_url", "the address holds characters that a URL may not hold")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as odd:
            raise AddressRefused("bad_url", "the address is not a URL") from odd
        if parts.scheme not in ("http", "https") or not host:
            raise AddressRefused("scheme_refused", "only https addresses are fetched")
        if "@" in parts.netloc:
            raise AddressRefused("userinfo_refused", "an address may not hold a user name or password")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        usual = 443 if parts.scheme == "https" else 80
        port = usual if port is None else port
        if f"{parts.scheme}://{host}:{port}" in self.trusted_origins:
            return _Target(parts.scheme, host, port, path, trusted=True)
        if parts.scheme != "https":
            raise AddressRefused("scheme_refused", "only https addresses are fetched")
        if port != self.port:
            raise AddressRefused("port_refused", f"only port {self.port} is connected to")
        self._check_host(parts.netloc, host)
        return _Target(parts.scheme, host, port, path, trusted=False)

    def _check_host(self, netloc: str, host: str) -> None:
        if netloc.startswith("["):
            if not re.fullmatch(r"\[[0-9a-fA-F:.]+\](:\d+)?", netloc):
                raise AddressRefused("bad_host", "the address's host is not a name or a plain IP address")
        elif _LAST_LABEL_IS_A_NUMBER.fullmatch(host):
            # 2130706433, 0x7f.1 and 0177.0.0.1 are all loopback to somebody; only the plain spelling is clear to all.
            try:
                ipaddress.IPv4Address(host)
            except ValueError as odd:
                raise AddressRefused("bad_host", "write IP addresses as four decimal numbers") from odd
        elif not _HOST_NAME.fullmatch(host):
            raise AddressRefused("bad_host", "the address's host is not a name or a plain IP address")
        if self.allowed_hosts is not None and not any(
            host == allowed or (allowed.startswith(".") and host.endswith(allowed)) for allowed in self.allowed_hosts
        ):
            raise AddressRefused("host_not_allowed", "the address's host is not on the list of allowed hosts")


def _check_announced(response: httpx2.Response, max_bytes: int) -> None:
    announced = response.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > max_bytes:
        raise TooLarge("too_large", f"the answer is larger than {max_bytes} bytes")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FetchFailed("encoded", "the address sends compressed content although plain was asked for")
