"""`python -m renderfleet_operator`: settings, logs, loop, and an exit code that says who must act.

0   stopped as asked
1   a part failed: start me again
2   the settings are wrong: an administrator must act
3   another replica took the lease: start me again, to stand by
"""

import argparse
import asyncio
import sys

import structlog
import uvloop
from pydantic import ValidationError

from renderfleet_client.login import LoginError

from . import app, log
from .errors import LostLease, SettingsWrong
from .settings import load


def main(arguments: list[str] | None = None) -> int:
    """Run the operator; comes back with the exit code."""
    parser = argparse.ArgumentParser(prog="renderfleet-operator", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--kubeconfig", help="instead of the pod's service account or $KUBECONFIG")
    chosen = parser.parse_args(arguments)
    try:
        settings = load()
    except SettingsWrong as wrong:
        print(f"settings: {wrong}", file=sys.stderr)
        return 2
    log.set_up(settings.log_level)
    logger = structlog.get_logger("renderfleet_operator")
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(app.run(settings, chosen.kubeconfig))
    except (LoginError, ValidationError) as wrong:
        logger.error("cannot start", error=str(wrong)[:500])
        return 2
    except LostLease as lost:
        logger.error("lost the lease", error=str(lost))
        return 3
    except Exception:
        logger.exception("ended by an error")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
