"""The command line: `python -m renderfleet_cluster <verb>`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from renderfleet_cluster import images, places, programs, providers, supervisor
from renderfleet_cluster.say import Trouble, line
from renderfleet_cluster.shape import ControllerFlags, Options, Shape

HELP = """\
Start a Kubernetes cluster to develop and test against, fill it with images, take it away again.

providers (--provider or RENDERFLEET_CLUSTER_PROVIDER):
  auto      kind where a container engine answers, else local (the default)
  local     etcd, API server, controllers, containerd, kubelet, kube-proxy and CoreDNS as processes of this machine;
            needs root, Go 1.26 and Debian's apt, but no container engine. The first start compiles them.
  kind      a kind cluster
  existing  the cluster of your KUBECONFIG; it is only used, never changed or removed

examples:
  python -m renderfleet_cluster up
  export KUBECONFIG=$(python -m renderfleet_cluster kubeconfig)
  export PATH=$(python -m renderfleet_cluster tools):$PATH         # kubectl, helm
  python -m renderfleet_cluster images load
  python -m renderfleet_cluster up --name bench --control-plane-only --controller-flags default
  python -m renderfleet_cluster down
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except Trouble as trouble:
        print(f"\nerror: {trouble}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on where this one was", file=sys.stderr)
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m renderfleet_cluster", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(name: str, help_text: str) -> argparse.ArgumentParser:
        made = verbs.add_parser(name, help=help_text, description=help_text)
        made.add_argument("--name", default=places.default_cluster_name(), help="cluster name (default: %(default)s)")
        made.add_argument("--provider", choices=providers.NAMES, default=providers.default_name())
        return made

    up = verb("up", "start the cluster; says so when it runs already")
    up.add_argument(
        "--control-plane-only",
        action="store_true",
        help="no node, no pods; may run beside a full cluster, starts in seconds",
    )
    up.add_argument(
        "--controller-flags",
        type=ControllerFlags,
        choices=list(ControllerFlags),
        default=ControllerFlags.TUNED,
        help="tuned: client limits of controller manager and scheduler raised; default: as Kubernetes ships them",
    )
    up.add_argument("--taint-pools", action="store_true", help="taint the node for every pool, as real pools often are")
    up.add_argument("--audit-log", type=Path, metavar="FILE", help="one line per API request, without bodies")
    up.set_defaults(run=_up)

    verb("down", "end the cluster and everything it left on this machine").set_defaults(run=_down)
    verb("status", "show the cluster's processes and whether they are well").set_defaults(run=_status)
    verb("kubeconfig", "print the path of the cluster's kubeconfig").set_defaults(run=_kubeconfig)

    tools = verbs.add_parser("tools", help="build kubectl and helm if needed and print their folder")
    tools.add_argument("also", nargs="*", metavar="program", help="further ones to build: kwok, versitygw, kind, …")
    tools.set_defaults(run=_tools)

    picture = verb("images", "build the project's images; `load` also puts them into the cluster")
    picture.add_argument("action", nargs="?", choices=("build", "load", "list"), default="build")
    picture.add_argument(
        "images", nargs="*", metavar="image", help=f"which ones (default: all): {', '.join(images.NAMES)}"
    )
    picture.set_defaults(run=_images)

    supervise = verbs.add_parser("supervise")  # without help: what `up` starts, not what people type
    supervise.add_argument("shape_file", type=Path)
    supervise.set_defaults(run=_supervise)
    return parser


def _up(chosen: argparse.Namespace) -> int:
    options = Options(
        control_plane_only=chosen.control_plane_only,
        controller_flags=chosen.controller_flags,
        taint_pools=chosen.taint_pools,
        audit_log=str(chosen.audit_log.resolve()) if chosen.audit_log else None,
    )
    provider = providers.choose(chosen.provider, chosen.name, for_control_plane_only=chosen.control_plane_only)
    provider.up(options)
    print(provider.kubeconfig())
    return 0


def _down(chosen: argparse.Namespace) -> int:
    providers.choose(chosen.provider, chosen.name).down()
    return 0


def _status(chosen: argparse.Namespace) -> int:
    text, all_well = providers.choose(chosen.provider, chosen.name).status()
    print(text)
    return 0 if all_well else 1


def _kubeconfig(chosen: argparse.Namespace) -> int:
    print(providers.choose(chosen.provider, chosen.name).kubeconfig())
    return 0


def _tools(chosen: argparse.Namespace) -> int:
    wanted = {"kubectl", "helm", *chosen.also}
    known = {one.name: one for one in programs.ALL}
    if unknown := sorted(wanted - known.keys()):
        raise Trouble(f"no program {', '.join(unknown)}", f"choose from {', '.join(known)}")
    programs.ensure(one for name, one in known.items() if name in wanted)
    print(programs.tools_dir())
    return 0


def _images(chosen: argparse.Namespace) -> int:
    names = images.checked_names(chosen.images)
    if chosen.action == "list":
        print(images.listing(names))
        return 0
    built = images.build(names)
    if chosen.action == "load":
        providers.choose(chosen.provider, chosen.name).load(built)
    for image in built:
        print(image.reference)
    return 0


def _supervise(chosen: argparse.Namespace) -> int:
    supervisor.Supervisor(Shape.from_json(chosen.shape_file.read_text())).run()
    line("supervisor ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
