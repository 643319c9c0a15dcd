"""`submit`: by flags that come from the models, or by manifests."""

import inspect
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from renderfleet_cli.door import Door, Target, Wish, judge, opened
from renderfleet_cli.errors import Failed, Misused, NotThere
from renderfleet_cli.options import with_target
from renderfleet_cli.output import Form, print_document, print_renders
from renderfleet_cli.spec_flags import Flag, flags_of, spec_from
from renderfleet_cli.views import Render
from renderfleet_cli.words import money, spell
from renderfleet_crds.kinds import AVATAR_RENDER, VIDEO_RENDER, VOICE_JOB, ResourceKind

from .watch import follow

_KINDS = {"avatar": AVATAR_RENDER, "voice": VOICE_JOB, "video": VIDEO_RENDER}
_SAVED_AVATAR = Flag("avatar_id", ("avatarId",), str, "A saved avatar; over REST only. Without any, the preferred one.")
_SHORT = {"avatar": "Pictures of a face.", "voice": "Speech.", "video": "A talking video."}
_TEACHES = {
    "avatar": """Ask for pictures of a face, from a description.

    \b
    Examples:
      renderfleet submit avatar --prompt "A friendly harbour guide, portrait" --count 2 --wait
      renderfleet submit avatar --prompt @guide.txt --size 1024x1536 --name guide -l campaign=spring
    """,
    "voice": """Ask for speech: of a text as it stands, or of a script that is first written from a prompt.

    \b
    Examples:
      renderfleet submit voice --text "Welcome aboard." --voice-id 21m00Tcm4TlvDq8ikWAM --wait
      renderfleet submit voice --prompt "A warm welcome, two sentences" --voice-id 21m00Tcm4TlvDq8ikWAM --name greeting
      echo "Mind the step." | renderfleet submit voice --text @- --voice-id 21m00Tcm4TlvDq8ikWAM
    """,
    "video": """Ask for a talking video, from a face and a voice; it waits for those that are not finished yet.

    \b
    Examples:
      renderfleet submit video --avatar-ref guide:2 --voice-ref greeting --wait
      renderfleet submit video --avatar-ref guide --script "Welcome aboard." --voice-id 21m00Tcm4TlvDq8ikWAM
      renderfleet submit video --audio-url https://example.org/speech.mp3 --avatar-key media/rf-acme/face.png
    """,
}


@cache
def command_for(word: str) -> Any:
    """The command that submits this kind; None for a word that means none."""
    if word not in _KINDS:
        return None
    kind = _KINDS[word]
    flags = flags_of(kind) + ([_SAVED_AVATAR] if kind is VIDEO_RENDER else [])
    single = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    single.command(word, help=inspect.cleandoc(_TEACHES[word]), short_help=_SHORT[word])(
        with_target(_command(word, kind, flags))
    )
    made = get_command(single)
    made.context_settings = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
    return made


def _command(word: str, kind: ResourceKind, flags: list[Flag]) -> Any:
    def submit(
        target: Target,
        *,
        name: Annotated[
            str | None, typer.Option("--name", metavar="NAME", help="Of the render; else one is made up.")
        ] = None,
        label: Annotated[
            list[str] | None,
            typer.Option("--label", "-l", metavar="NAME=VALUE", help="To find it by; may be repeated."),
        ] = None,
        wait: Annotated[
            bool, typer.Option("--wait", help="Show progress until the end; exit with 1 unless it succeeds.")
        ] = False,
        timeout: Annotated[
            float | None, typer.Option("--timeout", metavar="SECONDS", min=0, help="Give up waiting after so long.")
        ] = None,
        output: Annotated[Form | None, typer.Option("--output", "-o", help="Print the render itself.")] = None,
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Only check it, and say what it would cost and when it would start.")
        ] = False,
        **given: Any,
    ) -> None:
        spec = spec_from(flags, given)
        wishes = [Wish(kind=kind.kind, spec=spec, name=name, labels=labels_of(label or []))]
        try:
            if dry_run:
                estimate_all(target, wishes, form=output)
            else:
                submit_all(target, wishes, wait=wait, timeout_seconds=timeout, form=output)
        except Misused as refused:
            raise _in_flags(refused, word, flags) from refused

    signature = inspect.signature(submit)
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    first, *others = own
    submit.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[first, *(one.as_parameter() for one in flags), *others]
    )
    return submit


def _in_flags(refused: Misused, word: str, flags: Sequence[Flag]) -> Misused:
    """The same refusal in the words that were typed: of `--voice-id`, and not of voiceId."""
    options = {".".join(flag.path): flag.option for flag in flags}
    said = re.sub(r"(^|; )([\w.]+): ", lambda found: f"{found[1]}{options.get(found[2], found[2])}: ", refused.what)
    return Misused(said, refused.cure.replace("submit KIND", f"submit {word}"))


def labels_of(words: Sequence[str]) -> dict[str, str]:
    """Labels out of NAME=VALUE words. Raises Misused."""
    out = {}
    for word in words:
        for part in word.split(","):
            name, found, value = part.partition("=")
            if not found or not name:
                raise Misused(f"--label {word}: not a label", "write it as --label NAME=VALUE")
            out[name] = value
    return out


def submit_files(
    target: Target,
    files: Sequence[str],
    *,
    wait: bool,
    timeout_seconds: float | None,
    form: Form | None,
    dry_run: bool = False,
) -> None:
    """Submit all renders of these manifests."""
    from renderfleet_cli.manifests import read

    if dry_run:
        estimate_all(target, read(files), form=form)
        return
    submit_all(target, read(files), wait=wait, timeout_seconds=timeout_seconds, form=form)


def estimate_all(target: Target, wishes: Sequence[Wish], *, form: Form | None) -> None:
    """Say what these would cost and when they would start, and make nothing. Raises Misused for one that is not valid."""
    with opened(target) as door:
        _check_avatars(door, wishes)
        for wish in wishes:
            told = door.estimate(wish)
            if form in {"json", "yaml"}:
                print_document(asdict(told), form)
                continue
            cost = "cost not known" if told.micros is None else f"about {money(told.micros, told.currency)}"
            start = "" if told.start_seconds is None else f", starts in about {spell(told.start_seconds)}"
            print(f"{told.kind.lower()}.renderfleet.dev{f'/{wish.name}' if wish.name else ''} is valid: {cost}{start}")


def _check_avatars(door: Door, wishes: Sequence[Wish]) -> None:
    if door.via == "cluster" and any("avatarId" in one.spec for one in wishes):
        raise Misused("--avatar-id names an avatar saved over REST", "use --avatar-ref or --avatar-key, or --via rest")


def submit_all(
    target: Target, wishes: Sequence[Wish], *, wait: bool, timeout_seconds: float | None, form: Form | None
) -> None:
    """Submit, say so, and wait if asked to. Raises Failed unless all that was waited for succeeds."""
    with opened(target) as door:
        _check_avatars(door, wishes)
        made = []
        for wish in wishes:
            try:
                made.append(door.submit(wish))
            except (Failed, Misused) as refused:
                raise _partly(refused, made) from refused
            if form is None:
                print(f"{made[-1].ref} submitted")
        if wait:
            made = follow(door, made, timeout_seconds, sys.stderr if form else sys.stdout)
            if form is None:
                _show_results(made)
        elif form is None:
            _show_next(door, made)
        if form is not None:
            print_renders(made, form, as_list=len(wishes) > 1)
        if wait:
            judge(made)


def _partly(refused: Failed | Misused, made: Sequence[Render]) -> Failed | Misused:
    """The error, and which of the same manifests were taken before it: those are not taken back."""
    if not made:
        return refused
    kind = Failed if isinstance(refused, NotThere) else type(refused)
    done = ", ".join(one.short_ref for one in made)
    return kind(refused.what, f"{refused.cure}; already submitted: {done}".lstrip("; "))


def _show_results(renders: Sequence[Render]) -> None:
    """Where each result is: a signed link over REST, its key in the bucket otherwise."""
    for one in renders:
        if one.result_url or one.keys:
            print(f"{one.short_ref}: {one.result_url or ', '.join(one.keys)}")


def _show_next(door: Door, renders: Sequence[Render]) -> None:
    if sys.stdout.isatty():
        names = " ".join(one.short_ref for one in renders)
        print(
            f"Follow it with: renderfleet watch {names}"
            + (f" -n {renders[0].namespace}" if door.via == "cluster" else "")
        )
