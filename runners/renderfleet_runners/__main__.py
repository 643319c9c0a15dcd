"""Read the Task, run its stage, report, exit with a contract code.

RENDERFLEET_TASK                        the Task as JSON, gzipped, in base64
RENDERFLEET_TERMINATION_MESSAGE_PATH    where the result goes besides the run record (default: Kubernetes' path)
RENDERFLEET_WAIT_FOR_OTHER_SECONDS      how long another process that holds the claim is given to finish (default 60)
"""

import os
import signal
import sys
import time

STARTED = time.monotonic()

VERSION = "0.1.0"
WAIT_FOR_OTHER_ENV = "RENDERFLEET_WAIT_FOR_OTHER_SECONDS"
TERMINATION_PATH_ENV = "RENDERFLEET_TERMINATION_MESSAGE_PATH"


def main() -> int:
    """Exit code of the process."""
    if "--version" in sys.argv[1:]:
        print(f"renderfleet-runner {VERSION}")
        return 0
    if len(sys.argv) > 1:
        print(__doc__, file=sys.stderr)
        return 0 if sys.argv[1] in ("-h", "--help") else 64

    # Told to end while the libraries load, we still end in order; as a container's first process we would not end at all.
    told_early: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda told, _frame: told_early.append(told))

    # Looking for pydantic plugins means reading the metadata of every installed package; we have none.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

    import asyncio

    from renderfleet_crds.contract import TASK_ENV, TERMINATION_MESSAGE_PATH

    from .run import run_task

    termination_path = os.environ.get(TERMINATION_PATH_ENV, TERMINATION_MESSAGE_PATH)
    # Taken out, so that no tool we start inherits signed addresses and prompts.
    packed_task = os.environ.pop(TASK_ENV, "")
    wait_for_other_seconds = float(os.environ.get(WAIT_FOR_OTHER_ENV, "60"))
    return asyncio.run(run_task(packed_task, termination_path, STARTED, wait_for_other_seconds, told_early))


if __name__ == "__main__":
    sys.exit(main())
