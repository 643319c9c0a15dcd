"""Write every generated file of the repository, or, with --check, say which are out of date and exit 1."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

from renderfleet_crds import kinds, openapi

ROOT = Path(__file__).resolve().parent.parent
_HEADER = "# Generated from crds/renderfleet_crds by `make generate`; change the models instead.\n"


def crd_files() -> Iterator[tuple[Path, str]]:
    """The CRDs, once as plain manifests and once as Helm templates that can be switched off and outlive the release."""
    for kind in kinds.ALL:
        made = openapi.crd(kind)
        yield ROOT / f"crds/manifests/{kind.plural}.yaml", _HEADER + _yaml(made)
        made["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
        body = _HEADER + _yaml(made)
        yield (
            ROOT / f"charts/renderfleet/templates/crds/{kind.plural}.yaml",
            "{{- if .Values.crds.install }}\n" + body + "{{- end }}\n",
        )


def _yaml(data: object) -> str:
    return yaml.safe_dump(data, sort_keys=False, width=120, allow_unicode=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when a file is out of date")
    check = parser.parse_args().check
    stale = [(path, text) for path, text in crd_files() if not path.exists() or path.read_text() != text]
    for path, text in stale:
        print(("out of date: " if check else "wrote ") + str(path.relative_to(ROOT)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        print("run `make generate` and commit the result")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
