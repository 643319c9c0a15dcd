"""The chart as helm renders it."""

import subprocess
from typing import Any

import yaml

from renderfleet_cluster import programs
from renderfleet_cluster.places import REPOSITORY

CHART = REPOSITORY / "charts/renderfleet"
DEMO_VALUES = REPOSITORY / "charts/renderfleet-demo/renderfleet-values.yaml"

Body = dict[str, Any]


def helm_template(*values: str, more: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """What helm says of the chart with the demo's values and these, `more` being further arguments."""
    programs.ensure([programs.HELM])
    command = [str(programs.HELM.path("helm")), "template", "rf", str(CHART), "--namespace", "rfs"]
    command += ["--values", str(DEMO_VALUES), *(f"--set={one}" for one in values), *more]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def render(*values: str, more: tuple[str, ...] = ()) -> list[Body]:
    """The chart's objects with the demo's values and these, `more` being further arguments to helm."""
    made = helm_template(*values, more=more)
    assert made.returncode == 0, made.stderr
    return [one for one in yaml.safe_load_all(made.stdout) if one]


def refusal(*values: str) -> str:
    """What helm says against these values."""
    made = helm_template(*values)
    assert made.returncode != 0, f"{values} were taken"
    return made.stderr


def named(bodies: list[Body], kind: str, name: str) -> Body:
    """The one object of that kind and name."""
    [found] = [one for one in bodies if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    return found
