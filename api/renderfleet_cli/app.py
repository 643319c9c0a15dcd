"""The commands: what each is called, takes and teaches. What they do is loaded only when one runs.

Help is plain text on purpose: it loads in a third of the time, and can be searched, piped and pasted.
"""

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .completing import render_names
from .door import Target
from .errors import Misused
from .options import with_target
from .output import DocumentForm, Form

_NAMED = "NAME, KIND/NAME or a job's id."
Names = Annotated[list[str], typer.Argument(metavar="NAME...", help=_NAMED, autocompletion=render_names)]
SomeNames = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME...]", help=_NAMED, show_default=False, autocompletion=render_names)
]
Providers = Annotated[list[str], typer.Argument(metavar="PROVIDER...", help="Names of RenderProviders.")]
Output = Annotated[Form | None, typer.Option("--output", "-o", help="Instead of the plain table.")]
DocumentOutput = Annotated[DocumentForm | None, typer.Option("--output", "-o", help="Instead of the plain text.")]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Leave out the line of heads, for scripts.")]
Selector = Annotated[str | None, typer.Option("--selector", "-l", metavar="LABELS", help="As team=blue,shot=4.")]
Everywhere = Annotated[bool, typer.Option("--all-namespaces", "-A", help="In all namespaces.")]
KindWord = Annotated[str | None, typer.Option("--kind", "-k", metavar="KIND", help="avatar, voice or video.")]
ProviderName = Annotated[str | None, typer.Option("--provider", metavar="NAME", help="Name of a RenderProvider.")]
Wait = Annotated[bool, typer.Option("--wait", help="Show progress until the end; exit with 1 unless it succeeds.")]
Timeout = Annotated[
    float | None, typer.Option("--timeout", metavar="SECONDS", help="Give up waiting after so long.", min=0)
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Live = Annotated[bool, typer.Option("--watch", "-w", help="Keep it on the screen, up to date.")]


class Submit(TyperGroup):
    """One command for each kind of render, its flags made from the kind's model when it is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """In the order in which a video comes about."""
        return ["avatar", "voice", "video"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None for a kind that there is not."""
        from .commands.submit import command_for

        return command_for(cmd_name)


class Commands(TyperGroup):
    """What most people come for first, and groups of commands among the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """For the help."""
        first = ["submit", "watch", "list", "get", "why"]
        return [*first, *(name for name in super().list_commands(ctx) if name not in first)]


def _app(**more: Any) -> typer.Typer:
    return typer.Typer(
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
        **more,
    )


app = _app(cls=Commands)
submit_app = _app(cls=Submit, invoke_without_command=True)
app.add_typer(submit_app, name="submit", short_help="Ask for an avatar, a voice or a video.")


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            print(f"renderfleet {version('renderfleet')}")
        except PackageNotFoundError:
            print("renderfleet, from a checkout")
        raise typer.Exit


@app.callback()
@with_target
def root(
    target: Target,
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Avatars, voices and talking videos: submit them, follow them, find out why one waits.

    \b
    Two ways lead to the fleet, and what is configured is taken:
      REST       RENDERFLEET_URL and RENDERFLEET_KEY, or what `login` saved
      cluster    a kubeconfig; `kubectl renders` always goes this way

    \b
    Examples:
      renderfleet login https://renders.example.org
      renderfleet submit voice --text "Welcome aboard." --voice-id 21m00Tcm4TlvDq8ikWAM --wait
      renderfleet list --phase Queued
      renderfleet why greeting
      kubectl renders watch -n rf-acme

    \b
    Exit codes:
      0 done   1 a render did not succeed, or it could not be done   2 wrong usage   3 nobody answers
    """


@app.command()
def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="Address of the REST API.")],
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Save it under this name.")] = None,
) -> None:
    """Save the address and key of a REST API.

    The key is asked for, or read from stdin when that is no terminal; never given as an argument, since others on the
    machine could read it there. It is tried before it is saved, in a file that only you may read.

    \b
    Examples:
      renderfleet login https://renders.example.org
      renderfleet login https://staging.example.org --profile staging < key.txt
    """
    from .commands.login import login

    login(url, profile)


@app.command()
def logout(
    profile: Annotated[str | None, typer.Option("--profile", metavar="NAME", help="Which one.")] = None,
) -> None:
    """Forget a saved REST API and its key."""
    from .commands.login import logout

    logout(profile)


@submit_app.callback()
@with_target
def submit(
    target: Target,
    *,
    ctx: typer.Context,
    filename: Annotated[
        list[str] | None,
        typer.Option("--filename", "-f", metavar="FILE", help="Manifests, as kubectl takes; - is stdin."),
    ] = None,
    wait: Wait = False,
    timeout: Timeout = None,
    output: Output = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check them, and say what they would cost.")] = False,
) -> None:
    """Ask for an avatar, a voice or a video, by flags or by a manifest.

    \b
    Examples:
      renderfleet submit avatar --prompt "A friendly harbour guide, portrait" --count 4
      renderfleet submit voice --text @welcome.txt --voice-id 21m00Tcm4TlvDq8ikWAM --name greeting
      renderfleet submit video --avatar-ref guide:2 --voice-ref greeting --wait
      renderfleet submit -f talking-video.yaml --wait
      renderfleet submit -f talking-video.yaml --dry-run
    """
    if ctx.invoked_subcommand is not None:
        return
    if not filename:
        raise Misused("submit what?", "name a kind (avatar, voice, video), or manifests with -f")
    from .commands.submit import submit_files

    submit_files(target, filename, wait=wait, timeout_seconds=timeout, form=output, dry_run=dry_run)


@app.command("get")
@with_target
def get(
    target: Target, names: Names, output: Output = None, everywhere: Everywhere = False, no_headers: NoHeaders = False
) -> None:
    """Show renders by their names.

    \b
    Examples:
      renderfleet get greeting
      renderfleet get video/welcome -o yaml
    """
    from .commands.show import get

    get(target, names, form=output, everywhere=everywhere, headers=not no_headers)


@app.command("list")
@with_target
def list_renders(
    target: Target,
    *,
    kind: KindWord = None,
    phase: Annotated[
        list[str] | None, typer.Option("--phase", "-p", metavar="PHASE", help="Queued, Running …; may be repeated.")
    ] = None,
    provider: ProviderName = None,
    selector: Selector = None,
    everywhere: Everywhere = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=1, help="The newest so many; over REST 200.")
    ] = None,
    output: Output = None,
    no_headers: NoHeaders = False,
) -> None:
    """Show all renders, newest first.

    \b
    Examples:
      renderfleet list
      renderfleet list --kind video --phase Failed --phase DeadLettered -o wide
      kubectl renders list -A -l campaign=spring -o name
    """
    from .commands.show import list_renders

    list_renders(
        target,
        kind=kind,
        phases=phase or [],
        provider=provider,
        selector=selector,
        everywhere=everywhere,
        limit=limit,
        form=output,
        headers=not no_headers,
    )


@app.command(short_help="Follow renders with live progress.")
@with_target
def watch(
    target: Target,
    names: SomeNames = None,
    selector: Selector = None,
    everywhere: Everywhere = False,
    timeout: Timeout = None,
) -> None:
    """Follow renders with live progress until all are over; without names, all that are under way.

    In a terminal there is a bar for each; elsewhere, a line for each change. Exits with 1 unless all succeed.

    \b
    Examples:
      renderfleet watch welcome
      renderfleet watch -l campaign=spring
      kubectl renders watch -A | tee progress.log
    """
    from .commands.watch import watch

    watch(target, names or [], selector=selector, everywhere=everywhere, timeout_seconds=timeout)


@app.command(short_help="Read what a render's runners wrote.")
@with_target
def logs(
    target: Target,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="NAME or KIND/NAME.", autocompletion=render_names)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the runner ends.")] = False,
    stage: Annotated[
        str | None, typer.Option("--stage", metavar="STAGE", help="Of this stage: generate, start …")
    ] = None,
    attempt: Annotated[
        int | None, typer.Option("--attempt", metavar="N", min=1, help="Of this attempt; by default all.")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="The last so many lines of each.")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="The time of each line.")] = False,
) -> None:
    """Read what a render's runners wrote; goes by the cluster, where their pods are.

    \b
    Examples:
      renderfleet logs greeting --via cluster
      kubectl renders logs video/welcome -n rf-acme --follow
    """
    from .commands.logs import logs

    logs(target, name, follow=follow, stage=stage, attempt=attempt, tail_lines=tail, timestamps=timestamps)


@app.command(short_help="Say in a paragraph what a render waits for.")
@with_target
def why(target: Target, names: Names, output: DocumentOutput = None) -> None:
    """Say in a paragraph what a render waits for: since when, its place, its start, and what would free it.

    \b
    Examples:
      renderfleet why welcome
      kubectl renders why voice/greeting -n rf-acme
    """
    from .commands.explain import why

    why(target, names, form=output)


@app.command(short_help="Try renders again that ended badly.")
@with_target
def retry(target: Target, names: Names, wait: Wait = False, timeout: Timeout = None) -> None:
    """Try renders again that ended badly or are held. They begin anew, and a paid call may be paid again.

    \b
    Example:
      renderfleet retry welcome --wait
    """
    from .commands.change import retry

    retry(target, names, wait=wait, timeout_seconds=timeout)


@app.command(short_help="Stop renders.")
@with_target
def cancel(target: Target, names: Names, wait: Wait = False, timeout: Timeout = None) -> None:
    """Stop renders. What never started costs nothing; what is with a vendor may be charged all the same.

    \b
    Example:
      renderfleet cancel voice/greeting
    """
    from .commands.change import cancel

    cancel(target, names, wait=wait, timeout_seconds=timeout)


@app.command(short_help="Move renders within the line.")
@with_target
def priority(
    target: Target,
    value: Annotated[int, typer.Argument(metavar="PRIORITY", min=0, max=1000, help="0 to 1000; 100 is usual.")],
    names: Names,
) -> None:
    """Move renders that wait within the line: a higher priority starts earlier. Goes by the cluster.

    \b
    Examples:
      renderfleet priority 500 welcome --via cluster
      kubectl renders priority 500 video/welcome -n rf-acme
    """
    from .commands.change import prioritize

    prioritize(target, names, value)


@app.command(short_help="Let nothing more start at a vendor account.")
@with_target
def hold(target: Target, providers: Providers) -> None:
    """Let nothing more start at vendor accounts; what is under way goes on. Needs an administrator.

    \b
    Example:
      renderfleet hold did
    """
    from .commands.change import hold

    hold(target, providers, held=True)


@app.command(short_help="Let renders start at a vendor account again.")
@with_target
def release(target: Target, providers: Providers) -> None:
    """Let renders start again at vendor accounts that somebody, or the operator, has held.

    \b
    Example:
      renderfleet release did
    """
    from .commands.change import hold

    hold(target, providers, held=False)


@app.command(short_help="Try many dead-lettered renders again.")
@with_target
def redrive(
    target: Target,
    *,
    selector: Selector = None,
    all_dead: Annotated[bool, typer.Option("--all-dead", help="Every dead-lettered render.")] = False,
    kind: KindWord = None,
    provider: ProviderName = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="NAME", help="Of this tenant; needs an administrator.")
    ] = None,
    everywhere: Everywhere = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=500, help="At most so many.")] = 100,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show which.")] = False,
    yes: Yes = False,
) -> None:
    """Try many dead-lettered renders again, oldest first, after an outage say. Asks before it does, as each may cost.

    \b
    Examples:
      renderfleet redrive -l campaign=spring
      renderfleet redrive --all-dead --provider did --yes
      kubectl renders redrive --all-dead -A --dry-run
    """
    from .commands.change import redrive

    redrive(
        target,
        selector=selector,
        all_dead=all_dead,
        kind=kind,
        provider=provider,
        tenant=tenant,
        everywhere=everywhere,
        limit=limit,
        dry_run=dry_run,
        yes=yes,
    )


@app.command(short_help="Add up what renders have cost.")
@with_target
def cost(
    target: Target,
    *,
    by: Annotated[
        list[str] | None, typer.Option("--by", metavar="WHAT", help="tenant, kind or provider; may be repeated.")
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="TIME", help="Submitted within, as 24h; over REST 30d.")
    ] = None,
    selector: Selector = None,
    everywhere: Everywhere = False,
    output: DocumentOutput = None,
    no_headers: NoHeaders = False,
) -> None:
    """Add up what renders have cost, by tenant and kind. Renders that left the cluster are in REST only.

    \b
    Examples:
      renderfleet cost --since 30d
      kubectl renders cost -A --by tenant --by provider
    """
    from .commands.cost import cost

    cost(
        target,
        by=by or [],
        since=since,
        selector=selector,
        everywhere=everywhere,
        form=output,
        headers=not no_headers,
    )


@app.command(short_help="Show the queues.")
@with_target
def top(
    target: Target,
    *,
    watch: Live = False,
    interval: Annotated[float, typer.Option("--interval", metavar="SECONDS", min=0.5, help="Between two looks.")] = 2.0,
    everywhere: Annotated[
        bool, typer.Option("--all-namespaces/--one-namespace", "-A", help="In the cluster, all tenants.")
    ] = True,
    output: Output = None,
    no_headers: NoHeaders = False,
) -> None:
    """Show the queues: by pool of nodes, by tenant, by provider.

    \b
    Examples:
      renderfleet top --watch
      renderfleet top -o json
      kubectl renders top
    """
    from .commands.top import top

    top(
        target,
        live=watch,
        interval_seconds=interval,
        everywhere=everywhere,
        form=output,
        headers=not no_headers,
    )


@app.command(short_help="Look at all that it stands on; say what to fix.")
@with_target
def doctor(
    target: Target,
    output: DocumentOutput = None,
) -> None:
    """Look at all that RenderFleet stands on, and say what to fix: cluster, kinds, rights, database, storage, vendors.

    Looks by both ways, as far as they are configured. Exits with 1 when something is broken, 3 when nobody answers.

    \b
    Examples:
      renderfleet doctor
      kubectl renders doctor --context production
    """
    from .commands.doctor import doctor

    doctor(target, form=output)


@app.command(short_help="Print what makes the shell complete.")
def completion(
    ctx: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh, fish, powershell or kubectl.")],
) -> None:
    """Print what makes the shell complete commands, options and names.

    \b
    Examples:
      renderfleet completion bash > ~/.local/share/bash-completion/completions/renderfleet
      renderfleet completion zsh > ~/.zfunc/_renderfleet
      renderfleet completion fish > ~/.config/fish/completions/renderfleet.fish
      renderfleet completion kubectl > ~/bin/kubectl_complete-renders; chmod +x ~/bin/kubectl_complete-renders
    """
    from .commands.completion import completion

    completion(shell)
