"""The manual pages mount.dfsfs(8) and dfsfs(1), made from the table of options and the parsers of the commands.

They are written when a wheel or a Debian package is built: `python -m dfsfs.cli.manual FOLDER`. Standard library only,
as whatever builds them has nothing else.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import dfsfs
from dfsfs.cli.output import complain
from dfsfs.config.table import GROUPS, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dfsfs.cli.command import Command
    from dfsfs.config.table import Option

_GROUP_TITLES = {
    "identity": "Who logs in",
    "ownership": "Owners and modes",
    "names": "Names of files",
    "DFS": "The namespace",
    "caches": "What is kept",
    "transport": "Servers and connections",
    "mount": "The mount",
}


def escape(text: str) -> str:
    """A text as roff has it: no character of it means anything, and a hyphen can be copied."""
    lines = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").split("\n")
    return "\n".join(f"\\&{line}" if line.startswith(".") else line for line in lines)


def page(name: str, section: int, summary: str, parts: Iterable[tuple[str, str]]) -> str:
    """A manual page of sections with roff in them."""
    head = [
        f'.TH "{escape(name).upper()}" "{section}" "" "dfsfs {dfsfs.__version__}" "dfsfs"',
        *(".SH NAME", f"{escape(name)} \\- {escape(summary)}"),
    ]
    return (
        "\n".join([*head, *(line for title, body in parts for line in (f".SH {title.upper()}", body.strip()))]) + "\n"
    )


def paragraphs(*texts: str) -> str:
    """Paragraphs of plain text."""
    return "\n.PP\n".join(map(escape, texts))


def items(pairs: Iterable[tuple[str, str]]) -> str:
    """A list of terms, each with what it means."""
    return "\n".join(f".TP\n.B {escape(term)}\n{escape(text) or 'See above.'}" for term, text in pairs)


def example(text: str) -> str:
    """Lines as they are."""
    return f".PP\n.nf\n.RS\n{escape(text)}\n.RE\n.fi"


# -- mount.dfsfs(8) ---------------------------------------------------------------------------------------------------


def _term(option: Option) -> str:
    return ", ".join(f"{name}={option.metavar}" if option.metavar else name for name in option.names)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", ")")) else ".")


def _option_parts() -> str:
    lines = []
    for group, options in GROUPS.items():
        accepted = [(_term(option), _sentence(option.help)) for option in options if option.policy is Policy.ACCEPT]
        lines += [f".SS {_GROUP_TITLES[group]}", items(accepted)]
    return "\n".join(lines)


def _others() -> str:
    by_policy: dict[Policy, list[str]] = {}
    refused: list[tuple[str, str]] = []
    for option in (option for group in GROUPS.values() for option in group):
        if option.policy is Policy.REFUSE:
            refused.append((_term(option), _sentence(option.help)))
        elif option.policy is not Policy.ACCEPT:
            by_policy.setdefault(option.policy, []).extend(option.names)
    reasons: dict[str, list[str]] = {}
    for term, reason in refused:
        reasons.setdefault(reason, []).append(term)
    return "\n".join(
        [
            ".SS Ignored, as they ask for what is so anyway or are for others",
            escape(", ".join(by_policy[Policy.IGNORE]) + ", and whatever begins with x-."),
            ".SS Without effect, with a warning",
            escape(", ".join(by_policy[Policy.NO_EFFECT]) + "."),
            ".SS Refused",
            items((", ".join(terms), reason) for reason, terms in reasons.items()),
        ]
    )


_MOUNT_DESCRIPTION = (
    "mount.dfsfs shows a DFS namespace, or one SMB share, as one local directory tree. It is what mount(8) calls for "
    "file systems of the type dfsfs, from /etc/fstab and by hand; dfsfs mount is the same. Links of the namespace are "
    "followed where they are, also to other servers and namespaces; when a server dies, the next target of its links "
    "takes over.",
    "It goes to the background as soon as the root of the namespace has answered, so exit status 0 means that it is "
    "mounted. Whatever fails is one line on stderr.",
    "Where dfsfs has a mount already, a second one is refused, as it would hide the first, unless the option nonempty "
    "asks for that. A mount of root's whose program has ended is taken away first.",
    "The password comes from, in this order: password=, the environment variables PASSWD, PASSWD_FD (a descriptor) "
    "and PASSWD_FILE, the file of credentials=, and a question on the terminal. It shows in no command line, message "
    "or list of mounts.",
)
_MOUNT_EXITS = (
    ("0", "It is mounted."),
    ("1", "Wrong usage, or not permitted."),
    ("2", "This system can not do it: no FUSE, no memory."),
    ("8", "Interrupted."),
    ("32", "A server refused or did not answer, or the mount point is of no use."),
)
_FILES = (
    ("/run/dfsfs/, $XDG_RUNTIME_DIR/dfsfs/, /tmp/dfsfs-UID/", "Control sockets, for dfsfs(1)."),
    ("/etc/fuse.conf", "user_allow_other lets users share their mounts."),
    ("/etc/krb5.conf", "The realm, for sec=krb5."),
)
_MOUNT_EXAMPLES = """\
//contoso.com/public /mnt/public dfsfs credentials=/etc/dfsfs.cred,_netdev,nofail 0 0

mount -t dfsfs //contoso.com/public /mnt/public -o sec=krb5,multiuser
mount.dfsfs //fs1/data /mnt/data -o username=CONTOSO/alice
umount /mnt/public
umount -a -t fuse.dfsfs"""


def mount_page() -> str:
    """mount.dfsfs(8)."""
    from dfsfs.cli.mount import SYNOPSIS

    return page(
        "mount.dfsfs",
        8,
        "mounts a Microsoft DFS namespace",
        [
            ("synopsis", escape(SYNOPSIS)),
            ("description", paragraphs(*_MOUNT_DESCRIPTION)),
            ("options", _option_parts()),
            ("other options", _others()),
            ("remounting", paragraphs(*_REMOUNT)),
            ("exit status", items(_MOUNT_EXITS)),
            ("files", items(_FILES)),
            ("examples", "A line of /etc/fstab, and mounts by hand:\n" + example(_MOUNT_EXAMPLES)),
            ("see also", escape("dfsfs(1), mount(8), fstab(5), umount(8), fusermount3(1), kinit(1)")),
        ],
    )


_REMOUNT = (
    "mount -o remount,OPTIONS MOUNTPOINT changes options of a mount that is in use: ro and rw, acregmax, acdirmax, "
    "actimeo, dfs_ttl_min, dfs_ttl_max, dfs_prefer, dfs_pin, dfs_failback, nodfs_failback, and the login: username, "
    "domain, password, password2, credentials, guest. A new password counts for the next session; those that are there "
    "go on. Referrals are asked for again when they are next used. Any other option is refused by its name, as it "
    "takes umount and mount. mount(8) asks dfsfs only if it is given the mount point alone: with the source as well it "
    "asks only the kernel, which takes no other options than its own and says nothing of the others.",
)


# -- dfsfs(1) ---------------------------------------------------------------------------------------------------------


def _command_part(command: Command) -> str:
    parser = command.make_parser()
    parser.formatter_class = lambda prog: argparse.HelpFormatter(prog, width=1000)
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    pairs = []
    for action in parser._actions:  # argparse has no other list of them
        if action.dest == "help" or not action.help:
            continue
        value = f" {action.metavar or action.dest.upper()}" if action.nargs is None and action.option_strings else ""
        names = ", ".join(action.option_strings) if action.option_strings else str(action.metavar or action.dest)
        pairs.append((names + value, _sentence(action.help)))
    about = " ".join((parser.description or "").split())
    return "\n".join([f".SS {escape(usage)}", escape(_sentence(about)), items(pairs)])


_OUTPUT = (
    "Where the output is no terminal, each row of a table is one line, with at least two spaces between columns, for "
    "programs such as grep and awk; with --json there is no need to take lines apart. On a terminal titles stand out, "
    "words are wrapped inside of their column, and what is wrong has a colour, unless the environment variable "
    "NO_COLOR is set. Paths are never wrapped or cut. Control characters in names are shown as escapes such as "
    "\\x1b.",
)


def dfsfs_page() -> str:
    """dfsfs(1)."""
    from dfsfs.cli.registry import all_commands

    return page(
        "dfsfs",
        1,
        "asks and steers mounts of DFS namespaces",
        [
            ("synopsis", escape("dfsfs COMMAND [ARGUMENTS]") + "\n.br\n" + escape("dfsfs --version")),
            (
                "description",
                paragraphs(
                    "dfsfs says what mounts of DFS namespaces do and why, changes which targets they use, and works in "
                    "namespaces without mounting them. A PATH is one in a mount or a UNC path; with slashes, no shell "
                    "needs quotes: //contoso.com/public/docs.",
                    "dfsfs mount is mount.dfsfs(8).",
                ),
            ),
            ("commands", "\n".join(map(_command_part, all_commands()))),
            ("output", paragraphs(*_OUTPUT)),
            (
                "exit status",
                items(
                    [
                        ("0", "Done."),
                        ("1", "Wrong usage, or not permitted."),
                        ("2", "This system can not do it."),
                        ("3", "dfsfs check has found problems."),
                        ("8", "Interrupted."),
                        ("32", "A mount or a server failed."),
                        ("141", "The reader of the output has ended."),
                    ]
                ),
            ),
            ("see also", escape("mount.dfsfs(8), mount(8), klist(1)")),
        ],
    )


PAGES = {"mount.dfsfs.8": mount_page, "dfsfs.1": dfsfs_page}


def write(folder: Path) -> None:
    """Writes all pages into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (folder / name).write_text(make(), encoding="utf-8")


def main(words: Sequence[str]) -> int:
    """`python -m dfsfs.cli.manual FOLDER`."""
    if len(words) != 1:
        complain("dfsfs.cli.manual", "usage: python -m dfsfs.cli.manual FOLDER")
        return 1
    write(Path(words[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
