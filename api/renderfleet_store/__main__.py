"""`python -m renderfleet_store migrate`: prepare the database. Reads RENDERFLEET_DATABASE_DIRECT_URL."""

import argparse
import os
import sys

from sqlalchemy.exc import OperationalError

from .migrate import latest_revision, migrate


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m renderfleet_store", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    migrating = commands.add_parser("migrate", help="create or upgrade the tables, then exit")
    migrating.add_argument("--revision", default="head", help="version to upgrade to (default: the newest)")
    migrating.add_argument("--wait", type=float, default=60, metavar="SECONDS", help="how long the server may be away")
    commands.add_parser("version", help="print the version of the tables that this code needs")
    asked = parser.parse_args(arguments)
    if asked.command == "version":
        print(latest_revision())
        return 0
    url = os.environ.get("RENDERFLEET_DATABASE_DIRECT_URL") or os.environ.get("RENDERFLEET_DATABASE_URL")
    if not url:
        print("set RENDERFLEET_DATABASE_DIRECT_URL (postgresql+psycopg://user:password@host/database)", file=sys.stderr)
        return 2
    try:
        print(f"tables are at version {migrate(url, revision=asked.revision, wait_seconds=asked.wait)}")
    except OperationalError as away:
        print(f"the database cannot be reached: {str(away.orig).splitlines()[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
