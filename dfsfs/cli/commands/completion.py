"""The command `dfsfs completion`: what makes bash, zsh and fish complete the words of `dfsfs` and `mount.dfsfs`.

The scripts are made from the parsers of the commands and the table of mount options, so that they know what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfsfs.cli.command import Command, Parser
from dfsfs.cli.exitcodes import SUCCESS
from dfsfs.cli.output import show
from dfsfs.cli.registry import all_commands
from dfsfs.config.table import GROUPS, Policy

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

SHELLS = ("bash", "zsh", "fish")


@dataclass(frozen=True, slots=True)
class Words:
    """What may follow a command: options with their help, and the words of its first argument if these are fixed."""

    name: str
    summary: str
    options: tuple[tuple[str, str], ...]
    choices: tuple[str, ...]


def _make_parser() -> Parser:
    parser = Parser(
        "completion",
        "writes what makes a shell complete the words of dfsfs",
        about="Writes a script that makes a shell complete the words of dfsfs and mount.dfsfs.\n\n"
        "bash: source <(dfsfs completion bash)    zsh: source <(dfsfs completion zsh)    "
        "fish: dfsfs completion fish | source",
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def _run(arguments: argparse.Namespace, _: Sequence[str]) -> int:
    show(script(arguments.shell, all_commands()).splitlines())
    return SUCCESS


def words_of(command: Command) -> Words:
    """The words of a command, from its parser."""
    parser = command.make_parser()
    options: list[tuple[str, str]] = []
    choices: tuple[str, ...] = ()
    for action in parser._actions:  # argparse has no other list of them
        options += [(name, action.help or "") for name in action.option_strings]
        if not action.option_strings and action.choices and not choices:
            choices = tuple(map(str, action.choices))
    return Words(command.name, parser.summary, tuple(options), choices)


def mount_options() -> list[str]:
    """The names of the options of mount.dfsfs, those with a value with `=`."""
    accepted = (option for group in GROUPS.values() for option in group if option.policy is Policy.ACCEPT)
    return sorted({f"{name}=" if option.metavar else name for option in accepted for name in option.names})


def script(shell: str, commands: Sequence[Command]) -> str:
    """The script for a shell."""
    words = [Words("mount", "mounts a namespace", (("-o", "mount options"), ("--foreground", "stay in front")), ())]
    words += map(words_of, commands)
    writers: dict[str, Callable[[list[Words]], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
    return writers[shell](words)


def _bash(words: list[Words]) -> str:
    cases = []
    for word in words:
        known = " ".join((*(name for name, _ in word.options), *word.choices))
        cases.append(f"        {word.name}) COMPREPLY=($(compgen -W '{known}' -f -- \"$cur\")) ;;")
    names = " ".join(word.name for word in words)
    return f"""\
# bash completion for dfsfs and mount.dfsfs, made by `dfsfs completion bash`
_dfsfs_options='{" ".join(mount_options())}'
_dfsfs_option() {{
    # Completes the last of several options: -o sec=krb5,se<TAB>
    local head=""
    [[ $1 == *,* ]] && head="${{1%,*}},"
    compopt -o nospace
    COMPREPLY=($(compgen -P "$head" -W "$_dfsfs_options" -- "${{1##*,}}"))
}}
_dfsfs() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD - 1]}}"
    COMPREPLY=()
    if [[ $previous == -o ]]; then
        _dfsfs_option "$cur"
        return
    fi
    if [[ $COMP_CWORD -eq 1 ]]; then
        COMPREPLY=($(compgen -W '{names} --help --version' -- "$cur"))
        return
    fi
    case "${{COMP_WORDS[1]}}" in
{chr(10).join(cases)}
    esac
}}
_mount_dfsfs() {{
    local cur="${{COMP_WORDS[COMP_CWORD]}}"
    if [[ ${{COMP_WORDS[COMP_CWORD - 1]}} == -o ]]; then
        _dfsfs_option "$cur"
    else
        COMPREPLY=($(compgen -d -W '-o -f -n -s -v --foreground --help --version' -- "$cur"))
    fi
}}
complete -F _dfsfs -o filenames dfsfs
complete -F _mount_dfsfs -o filenames mount.dfsfs
"""


def _quote(text: str) -> str:
    """A text in single quotes, for zsh and fish; without what has a meaning for zsh's _describe."""
    return "'" + text.replace("\\", "").replace("'", "").replace(":", " -").replace("%%", "%") + "'"


def _zsh(words: list[Words]) -> str:
    names = "\n".join(f"        {_quote(word.name)[:-1]}:{_quote(word.summary)[1:]}" for word in words)
    cases = []
    for word in words:
        known = [f"{_quote(name)[:-1]}:{_quote(text)[1:]}" for name, text in word.options]
        known += [_quote(choice) for choice in word.choices]
        cases.append(f"        {word.name}) known=({' '.join(known)}) ;;")
    return f"""\
#compdef dfsfs
# zsh completion for dfsfs, made by `dfsfs completion zsh`
_dfsfs() {{
    local -a names known options
    names=(
{names}
    )
    options=({" ".join(mount_options())})
    if (( CURRENT == 2 )); then
        _describe command names
        return
    fi
    if [[ $words[CURRENT-1] == -o ]]; then
        compset -P '*,'
        compadd -S '' -a options
        return
    fi
    case $words[2] in
{chr(10).join(cases)}
    esac
    _describe argument known
    _files
}}
compdef _dfsfs dfsfs
"""


def _fish(words: list[Words]) -> str:
    lines = ["# fish completion for dfsfs, made by `dfsfs completion fish`"]
    for word in words:
        lines.append(f"complete -c dfsfs -n __fish_use_subcommand -f -a {word.name} -d {_quote(word.summary)}")
        here = f"-n '__fish_seen_subcommand_from {word.name}'"
        if word.choices:
            lines.append(f"complete -c dfsfs {here} -f -a '{' '.join(word.choices)}'")
        for name, text in word.options:
            flag = f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
            lines.append(f"complete -c dfsfs {here} {flag} -d {_quote(text)}")
    lines.append(f"complete -c dfsfs -s o -x -a '(__fish_append , {' '.join(mount_options())})'")
    return "\n".join(lines) + "\n"


COMMAND = Command("completion", _make_parser, _run)
