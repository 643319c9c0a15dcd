"""Run the demo, or take it away again."""

import argparse
import contextlib
import sys
import time
from pathlib import Path

from renderfleet_cluster import debian, providers
from renderfleet_cluster.places import REPOSITORY, default_cluster_name
from renderfleet_cluster.say import Trouble, line
from renderfleet_cluster.shape import Options

from . import deploy, forward, story

OUT = REPOSITORY / "out/demo"
API_PORT, STORAGE_PORT = 8800, 9000


def run() -> None:
    """Cluster, fleet, story."""
    begin = time.monotonic()
    line("the first run compiles Kubernetes (usually 12 min on two cores); later ones take about a minute")
    debian.install({"ffprobe": "ffmpeg"})
    tools = up()
    with contextlib.ExitStack() as forwards:
        api = forwards.enter_context(
            forward.forwarded(tools, deploy.SYSTEM_NAMESPACE, f"{deploy.RELEASE}-api", 80, API_PORT)
        )
        forwards.enter_context(forward.forwarded(tools, deploy.DEMO_NAMESPACE, "s3", 9000, STORAGE_PORT))
        video = story.tell(api, deploy.admin_key(tools), OUT)
    print("\n… and as kubectl shows them (kubectl get renderfleet -A):")
    print(tools.kubectl("get", "renderfleet", "-A"))
    print(f"The video: {video}")
    print(f"Look around:  export KUBECONFIG={tools.kubeconfig} PATH={Path(tools.path('kubectl')).parent}:$PATH")
    print(f"Take it away: make demo-down          ({time.monotonic() - begin:.0f} s)")


def up() -> deploy.Tools:
    """A cluster with the fleet in it; quick when both are there."""
    provider = providers.choose(providers.default_name(), default_cluster_name())
    provider.up(Options())
    tools = deploy.Tools(Path(provider.kubeconfig()))
    deploy.deploy(tools, provider)
    return tools


def down() -> None:
    """Take away the cluster and all that ran in it."""
    providers.choose(providers.default_name(), default_cluster_name()).down()


def main() -> int:
    parser = argparse.ArgumentParser(prog="renderfleet_demo", description=__doc__)
    parser.add_argument(
        "verb",
        choices=["run", "up", "down"],
        help="run: cluster, fleet and a talking video; up: cluster and fleet only; down: take all of it away",
    )
    verb = parser.parse_args().verb
    try:
        {"run": run, "up": up, "down": down}[verb]()
    except Trouble as trouble:
        print(f"\nThis did not work: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
