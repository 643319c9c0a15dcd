"""A private PostgreSQL server on a loopback port, gone with its context.

The server refuses to run as root, so it runs as an unprivileged user when the tests do.
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from renderfleet_cluster import debian

START_SECONDS = 30


@dataclass
class Postgres:
    """A running server; `stop`, `start`, `freeze` and `thaw` play its accidents."""

    binaries: Path
    data: Path
    port: int
    user: str | None
    """Who it runs as; None: whoever we are."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, database: str = "postgres") -> str:
        """SQLAlchemy's address of one of its databases."""
        return f"postgresql+psycopg://renderfleet@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str, template: str = "template1") -> str:
        """A fresh database; returns its address."""
        with psycopg.connect(self.dsn(), autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def start(self) -> None:
        """Run it until it answers."""
        log = (self.data.parent / "server.log").open("ab")
        self.process = subprocess.Popen(
            self.as_user(
                str(self.binaries / "postgres"),
                *("-D", str(self.data), "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"),
                *("-c", f"unix_socket_directories={self.data.parent}", "-c", "fsync=off", "-c", "max_connections=200"),
                *("-c", "wal_level=replica"),
            ),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                psycopg.connect(self.dsn(), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.data.parent / "server.log").read_text()[-2000:]) from None
                time.sleep(0.05)

    def freeze(self) -> None:
        """Stop all its processes: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        """Each backend is its own process group, so they are found by their parent."""
        if self.process:
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in (self.process.pid, *map(int, children)):
                os.kill(pid, number)

    def stop(self) -> None:
        """End it at once, connections and all, as `pg_ctl stop -m immediate` does."""
        if self.process and self.process.poll() is None:
            self.thaw()
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(timeout=START_SECONDS)
        self.process = None

    def dsn(self) -> str:
        """libpq's address of the database that is always there."""
        return f"host=127.0.0.1 port={self.port} user=renderfleet dbname=postgres"

    def as_user(self, *command: str) -> list[str]:
        """The command line that runs `command` as the server's user."""
        if self.user is None:
            return list(command)
        return ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--init-groups", "--", *command]


@contextmanager
def replica_of(primary: Postgres) -> Iterator[Postgres]:
    """A hot standby that follows `primary` by streaming replication."""
    home = Path(tempfile.mkdtemp(prefix="renderfleet-pg-"))
    if primary.user:
        owner = pwd.getpwnam(primary.user)
        os.chown(home, owner.pw_uid, owner.pw_gid)
    standby = Postgres(primary.binaries, home / "data", _free_port(), primary.user)
    copy = [str(primary.binaries / "pg_basebackup"), "-D", str(standby.data), "-d", primary.dsn(), "-R", "-X", "stream"]
    try:
        subprocess.run(primary.as_user(*copy, "--checkpoint=fast"), check=True, capture_output=True)
        standby.start()
        yield standby
    finally:
        standby.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def pgbouncer_before(server: Postgres, *, pool: int = 2) -> Iterator[str]:
    """PgBouncer in transaction mode with `pool` server connections; gives `host:port`."""
    home = Path(tempfile.mkdtemp(prefix="renderfleet-pgbouncer-"))
    port = _free_port()
    (home / "users.txt").write_text('"renderfleet" ""\n')
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={server.port} user=renderfleet\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {home}/users.txt\npool_mode = transaction\ndefault_pool_size = {pool}\nmax_client_conn = 500\n"
        "ignore_startup_parameters = extra_float_digits\n"
    )
    if server.user:
        owner = pwd.getpwnam(server.user)
        for path in (home, *home.iterdir()):
            os.chown(path, owner.pw_uid, owner.pw_gid)
    binary = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin") or "pgbouncer"
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            server.as_user(binary, str(home / "pgbouncer.ini")), stdout=log, stderr=log, start_new_session=True
        )
    try:
        _await_port(port, process, home / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=START_SECONDS)
        shutil.rmtree(home, ignore_errors=True)


def _await_port(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(log.read_text()[-2000:])
        time.sleep(0.05)


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A new, empty server. Raises RuntimeError, naming the package, where there is no PostgreSQL."""
    binaries = _binaries()
    home = Path(tempfile.mkdtemp(prefix="renderfleet-pg-"))
    user = _unprivileged_user() if os.geteuid() == 0 else None
    if user:
        owner = pwd.getpwnam(user)
        os.chown(home, owner.pw_uid, owner.pw_gid)
    server = Postgres(binaries, home / "data", _free_port(), user)
    try:
        subprocess.run(
            server.as_user(
                str(binaries / "initdb"),
                *("-D", str(server.data), "-U", "renderfleet", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C"),
            ),
            check=True,
            capture_output=True,
        )
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    debian.install(debian.POSTGRES_PACKAGES)
    return Path(next(iter(debian.POSTGRES_PACKAGES))).parent


def _unprivileged_user() -> str:
    known = {one.pw_name for one in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
