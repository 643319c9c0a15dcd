"""`why`: one paragraph for each render."""

import textwrap
from collections.abc import Sequence
from shutil import get_terminal_size

from renderfleet_cli.door import Target, find_all, opened
from renderfleet_cli.why import why as explain
from renderfleet_cli.words import utc_now


def why(target: Target, names: Sequence[str]) -> None:
    """Say for each what it waits for."""
    width = min(100, get_terminal_size((100, 0)).columns)
    with opened(target) as door:
        for at, render in enumerate(find_all(door, names)):
            if at:
                print()
            text = explain(render, door.surroundings(render), utc_now())
            # Commands stand in the text to be copied: never break them at a hyphen.
            print(textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False))
