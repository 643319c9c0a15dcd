"""The guarded client: what it refuses never sees a connection, and what it allows gets exactly the checked address."""

import asyncio
import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from renderfleet_providers.guarded import (
    AddressRefused,
    FetchFailed,
    GuardedClient,
    IPAddress,
    StatusRefused,
    TooLarge,
    is_public,
    origin_of,
)

HOST = "media.example.test"
ALLOWED, FORBIDDEN = "127.0.0.2", "127.0.0.1"
"""Two loopback addresses: for these tests the first plays a public one."""


@dataclass
class Listener:
    """A server that remembers who came."""

    port: int = 0
    connections: int = 0
    server_names: list[str | None] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)


@asynccontextmanager
async def listening(
    address: str, answer: bytes | Callable[[bytes], bytes], *, port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Listener]:
    seen = Listener()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            seen.requests.append(request)
            writer.write(answer(request) if callable(answer) else answer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    if tls is not None:
        tls.sni_callback = lambda _socket, name, _context: seen.server_names.append(name)
    server = await asyncio.start_server(serve, address, port, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    async with server:
        yield seen


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of HOST, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("tls") / "server.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + made.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def client_tls(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


class Names:
    """A resolver that gives one list of addresses after the other and repeats the last."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def only_allowed(address: IPAddress) -> bool:
    return str(address) == ALLOWED


OK = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 5\r\n\r\nhello"

PRIVATE_HOSTS = [
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0177.0.0.1",
    "127.0.0.1.",
    "0",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.5.4",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:169.254.169.254]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fe80::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
]


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
async def test_private_hosts_are_never_connected_to(host: str, tmp_path: Path) -> None:
    async with listening("127.0.0.1", OK) as listener:
        client = GuardedClient(port=listener.port)
        with pytest.raises((AddressRefused, FetchFailed)) as refused:
            await client.fetch_to_file(
                f"https://{host}:{listener.port}/x", tmp_path / "x", max_bytes=100, total_seconds=5
            )
        assert refused.value.code in ("address_not_public", "bad_host", "name_not_found")
        assert listener.connections == 0


ODD_URLS = [
    ("http://media.example.test/x", "scheme_refused"),
    ("ftp://media.example.test/x", "scheme_refused"),
    ("file:///etc/passwd", "scheme_refused"),
    ("gopher://127.0.0.1:70/x", "scheme_refused"),
    ("data:text/plain,x", "scheme_refused"),
    ("//media.example.test/x", "scheme_refused"),
    ("https:///x", "scheme_refused"),
    ("https://user@media.example.test/x", "userinfo_refused"),
    ("https://media.example.test@127.0.0.1/x", "userinfo_refused"),
    ("https://user:pass@media.example.test/x", "userinfo_refused"),
    ("https://media.example.test:8443/x", "port_refused"),
    ("https://media.example.test:80/x", "port_refused"),
    ("https://media.example.test:0/x", "port_refused"),
    ("https://media.example.test:99999/x", "bad_url"),
    ("https://media.example.test\\@127.0.0.1/x", "bad_url"),
    ("https://media.example.test/x y", "bad_url"),
    ("https://media.example.test/\r\nHost: evil", "bad_url"),
    ("https://mediá.example.test/x", "bad_url"),
    ("https://[::1].evil.test/x", "bad_host"),
    ("https://[::1%25lo]/x", "bad_host"),
    ("https://[v1.x]/x", "bad_host"),
    ("https://-media.example.test/x", "bad_host"),
    ("https://media%2eexample.test/x", "bad_host"),
    ("https://" + "a" * 9000, "bad_url"),
]


@pytest.mark.parametrize(("url", "code"), ODD_URLS, ids=[url[:40] for url, _ in ODD_URLS])
def test_odd_urls_are_refused_for_how_they_are_written(url: str, code: str) -> None:
    with pytest.raises(AddressRefused) as refused:
        GuardedClient().check(url)
    assert refused.value.code in (code, "bad_url"), refused.value


def test_plain_urls_are_not() -> None:
    for url in ("https://media.example.test/a.png?b=c", "https://media.example.test:443/", "https://93.184.216.34/a"):
        GuardedClient().check(url)


async def test_one_private_address_among_public_ones_is_enough(tmp_path: Path) -> None:
    async with listening(FORBIDDEN, OK) as listener:
        client = GuardedClient(port=listener.port, resolver=Names([ALLOWED, FORBIDDEN]), may_connect_to=only_allowed)
        with pytest.raises(AddressRefused):
            await client.request("GET", f"https://{HOST}:{listener.port}/")
        assert listener.connections == 0


async def test_connects_to_the_checked_address_with_the_names_own_sni_and_host(
    tmp_path: Path, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """Rebinding: every later question would be answered with the forbidden address. There is no later question."""
    async with (
        listening(ALLOWED, OK, tls=server_tls) as good,
        listening(FORBIDDEN, OK, port=good.port) as bad,
    ):
        names = Names([ALLOWED], [FORBIDDEN])
        client = GuardedClient(port=good.port, resolver=names, may_connect_to=only_allowed, ssl_context=client_tls)
        fetched = await client.fetch_to_file(
            f"https://{HOST}:{good.port}/a.png?b=c", tmp_path / "a.png", max_bytes=100, total_seconds=5
        )
    assert (tmp_path / "a.png").read_bytes() == b"hello"
    assert fetched.bytes == 5
    assert fetched.content_type == "image/png"
    assert names.asked == 1
    assert good.server_names == [HOST]
    assert good.requests[0].startswith(b"GET /a.png?b=c HTTP/1.1\r\n")
    assert f"host: {HOST}:{good.port}".encode() in good.requests[0].lower()
    assert bad.connections == 0


async def test_the_next_checked_address_is_tried_when_one_cannot_be_reached(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with listening(ALLOWED, OK, tls=server_tls) as good:
        client = GuardedClient(
            port=good.port,
            resolver=Names(["127.0.0.3", ALLOWED]),
            may_connect_to=lambda address: str(address) in ("127.0.0.3", ALLOWED),
            ssl_context=client_tls,
        )
        assert (await client.request("GET", f"https://{HOST}:{good.port}/")).body == b"hello"


async def test_a_certificate_for_another_name_is_refused(
    tmp_path: Path, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with listening(ALLOWED, OK, tls=server_tls) as good:
        client = GuardedClient(
            port=good.port, resolver=Names([ALLOWED]), may_connect_to=only_allowed, ssl_context=client_tls
        )
        with pytest.raises(FetchFailed) as failed:
            await client.request("GET", f"https://other.example.test:{good.port}/")
    assert failed.value.code == "connection_failed"
    assert good.requests == []


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n".encode()


@pytest.mark.parametrize(
    "location", ["https://internal.example.test:{port}/", "http://127.0.0.1:{port}/", "file:///etc/passwd"]
)
@pytest.mark.parametrize("max_redirects", [0, 3])
async def test_redirects_do_not_lead_inside(
    location: str, max_redirects: int, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def names(host: str, port: int) -> list[str]:
        return [ALLOWED if host == HOST else FORBIDDEN]

    port = 0
    async with listening(ALLOWED, lambda _request: redirect(location.format(port=port)), tls=server_tls) as good:
        port = good.port
        async with listening(FORBIDDEN, OK, port=port) as bad:
            client = GuardedClient(
                port=port,
                resolver=names,
                may_connect_to=only_allowed,
                ssl_context=client_tls,
                max_redirects=max_redirects,
            )
            with pytest.raises(AddressRefused):
                await client.request("GET", f"https://{HOST}:{port}/")
    assert good.connections == 1
    assert bad.connections == 0


async def test_allowed_redirects_are_followed_and_end(server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
    def answer(request: bytes) -> bytes:
        return OK if b"GET /there " in request else redirect("/round" if b"GET /round" in request else "/there")

    async with listening(ALLOWED, answer, tls=server_tls) as good:
        client = GuardedClient(
            port=good.port,
            resolver=Names([ALLOWED]),
            may_connect_to=only_allowed,
            ssl_context=client_tls,
            max_redirects=2,
        )
        assert (await client.request("GET", f"https://{HOST}:{good.port}/")).body == b"hello"
        with pytest.raises(AddressRefused):
            await client.request("GET", f"https://{HOST}:{good.port}/round")
    assert good.connections == 2 + 3


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", id="announced"),
        pytest.param(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + b"x" * 5000, id="not announced"),
        pytest.param(
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n",
            id="in chunks",
        ),
    ],
)
async def test_bodies_are_cut_off(answer: bytes, tmp_path: Path) -> None:
    async with listening("127.0.0.1", answer) as listener:
        client = GuardedClient.trusting([f"http://127.0.0.1:{listener.port}"])
        with pytest.raises(TooLarge):
            await client.fetch_to_file(
                f"http://127.0.0.1:{listener.port}/", tmp_path / "x", max_bytes=500, total_seconds=5
            )
    assert not (tmp_path / "x").exists() or (tmp_path / "x").stat().st_size <= 500


async def test_a_lying_length_is_a_failure(tmp_path: Path) -> None:
    async with listening("127.0.0.1", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort") as listener:
        client = GuardedClient.trusting([f"http://127.0.0.1:{listener.port}"])
        with pytest.raises(FetchFailed):
            await client.fetch_to_file(
                f"http://127.0.0.1:{listener.port}/", tmp_path / "x", max_bytes=500, total_seconds=5
            )


async def test_packed_bodies_are_refused(tmp_path: Path) -> None:
    async with listening("127.0.0.1", OK.replace(b"image/png", b"x\r\ncontent-encoding: gzip")) as listener:
        client = GuardedClient.trusting([f"http://127.0.0.1:{listener.port}"])
        with pytest.raises(FetchFailed) as failed:
            await client.fetch_to_file(
                f"http://127.0.0.1:{listener.port}/", tmp_path / "x", max_bytes=500, total_seconds=5
            )
    assert failed.value.code == "encoded"
    assert b"accept-encoding: identity" in listener.requests[0].lower()


async def test_time_is_counted_over_all() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        try:
            for _ in range(1000):
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.02)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        client = GuardedClient.trusting([f"http://127.0.0.1:{port}"])
        with pytest.raises(FetchFailed) as failed:
            await client.request("GET", f"http://127.0.0.1:{port}/", total_seconds=0.3)
    assert failed.value.code == "timed_out"


async def test_an_administrators_origin_is_trusted_and_its_neighbours_are_not() -> None:
    async with listening("127.0.0.1", OK) as own, listening("127.0.0.1", OK) as neighbour:
        client = GuardedClient.trusting([f"http://127.0.0.1:{own.port}/did"])
        assert (await client.request("GET", f"http://127.0.0.1:{own.port}/results/x.mp4")).body == b"hello"
        for url in (f"http://127.0.0.1:{neighbour.port}/", f"https://127.0.0.1:{own.port}/"):
            with pytest.raises(AddressRefused):
                await client.request("GET", url)
    assert neighbour.connections == 0
    assert own.connections == 1


async def test_only_listed_hosts() -> None:
    client = GuardedClient(allowed_hosts=frozenset({"media.example.test", ".cdn.test"}))
    for host in ("media.example.test", "a.cdn.test"):
        client.check(f"https://{host}/")
    for host in ("evilmedia.example.test", "x.media.example.test", "cdn.test", "evilcdn.test"):
        with pytest.raises(AddressRefused) as refused:
            client.check(f"https://{host}/")
        assert refused.value.code == "host_not_allowed"


async def test_a_refusal_by_the_server_is_told_with_its_status(tmp_path: Path) -> None:
    async with listening("127.0.0.1", b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n") as listener:
        client = GuardedClient.trusting([f"http://127.0.0.1:{listener.port}"])
        with pytest.raises(StatusRefused) as refused:
            await client.fetch_to_file(
                f"http://127.0.0.1:{listener.port}/secret?sig=1", tmp_path / "x", max_bytes=9, total_seconds=5
            )
    assert refused.value.status == 403
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "2a00:1450:4001::1"]
)
def test_public_addresses(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        *("192.0.0.1", "192.0.2.1", "203.0.113.7", "198.51.100.7", "192.88.99.1", "240.0.0.1", "168.63.129.16"),
        *("::", "::1", "::ffff:8.8.8.8%1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::808:808", "64:ff9b:1::1"),
        *("100::1", "2001::1", "2001:db8::1", "2002:808:808::", "3fff::1", "5f00::1", "fe80::1", "fec0::1", "ff02::1"),
        *("2606:2800::1%eth0",),
    ],
)
def test_addresses_that_are_not(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


def test_origins_are_written_in_one_way() -> None:
    assert origin_of("https://api.d-id.com") == "https://api.d-id.com:443"
    assert origin_of("http://standin.renderfleet.svc:8099/did") == "http://standin.renderfleet.svc:8099"
    with pytest.raises(ValueError, match="URL"):
        origin_of("ftp://x")
