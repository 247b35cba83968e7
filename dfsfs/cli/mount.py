"""The command mount.dfsfs, which mount(8) calls for file systems of type dfsfs.

What it does, in this order: read the command line; get passwords out of sight (which starts it anew, see secrets.py);
find out who logs in; check the mount point and FUSE; go to the background and mount (daemon.py).

Whatever fails is one line on stderr and an exit code of mount(8). Modules that take long to import are imported where
they are needed, so that a mistake in the options is answered at once.
"""

from __future__ import annotations

import functools
import getopt
import logging
import os
import shutil
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import dfsfs
from dfsfs.cli.collector import exempt_what_is_there, importing
from dfsfs.cli.configure import configure, hide_passwords
from dfsfs.cli.daemon import run_in_background
from dfsfs.cli.exitcodes import INTERRUPTED, SUCCESS, SYSTEM_ERROR, USAGE
from dfsfs.cli.logs import is_service, log_to_stderr, log_to_system
from dfsfs.cli.messages import MountError, Verdict, describe
from dfsfs.cli.mountpoint import check_mountpoint, check_that_nothing_is_hidden, clear_dead_mounts
from dfsfs.cli.output import as_in_a_pipe, complain, escape_tracebacks, show
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import parse_options
from dfsfs.config.place import join_prefix, parse_unc
from dfsfs.config.table import GROUPS, Policy
from dfsfs.smb.auth.identity import forbid_core_dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dfsfs.config.model import MountConfig, ParsedOptions

    Run = Callable[[MountConfig, str, Callable[[], None]], None]
    """Gets the mount point, and what to call as soon as the mount is there."""

log = logging.getLogger("dfsfs.cli")

STARTING = 30.0
"""Seconds for a mount besides the waiting for servers that options allow: several namespaces on the way, and FUSE."""

SYNOPSIS = "mount.dfsfs //SERVER/NAMESPACE[/FOLDER...] MOUNTPOINT [-fnsvVh] [-o OPTION[,OPTION...]] [--foreground]"

_FLAGS = """\
  -o OPTIONS        mount options, separated by commas
  -f, --fake        check everything and do not mount
  -n                does nothing: there is no /etc/mtab to write
  -s                ignore options that dfsfs does not know
  -v, --verbose     log more
  --foreground      stay in front and log to stderr
  -V, --version     show the version
  -h, --help        show this
"""


@dataclass(frozen=True, slots=True)
class Backend:
    """What serves a mount."""

    check: Callable[[MountConfig, str], None]
    """Raises MountError if it can't, as far as is known without trying; gets the mount point."""
    run: Run
    """Serves until it is unmounted. Raises what went wrong."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """The command line."""

    place: str
    mountpoint: str
    options: tuple[str, ...] = ()
    fake: bool = False
    sloppy: bool = False
    verbose: bool = False
    foreground: bool = False

    def as_list(self) -> list[str]:
        """A command line that says the same."""
        flags = {"-f": self.fake, "-s": self.sloppy, "-v": self.verbose, "--foreground": self.foreground}
        options = [word for text in self.options if text for word in ("-o", text)]
        mountpoint = f"./{self.mountpoint}" if self.mountpoint.startswith("-") else self.mountpoint
        return [self.place, mountpoint, *options, *(flag for flag, given in flags.items() if given)]


def main(argv: Sequence[str] | None = None, *, backend: Backend | None = None) -> int:
    """Runs the command and returns the exit code. `backend`: what serves the mount, FUSE if nothing is given."""
    escape_tracebacks()
    words = sys.argv[1:] if argv is None else list(argv)
    if argv is None:  # a program of its own
        exempt_what_is_there()
    forbid_core_dumps()
    return as_in_a_pipe(lambda: _main(words, backend or Backend(check_fuse, _run)))


def _main(words: Sequence[str], backend: Backend) -> int:
    shown = ""
    try:
        arguments = parse_arguments(words)
        if arguments is None:
            return SUCCESS
        unc = parse_unc(arguments.place)
        shown = f"{unc}: "
        verdict = _mount(arguments, words, backend)
    except ConfigError as error:
        verdict = Verdict(USAGE, str(error))
    except MountError as error:
        verdict = error.verdict
    except KeyboardInterrupt:
        verdict = Verdict(INTERRUPTED, "interrupted")
    if verdict.text:
        _say(f"{shown}{verdict.text}")
    return verdict.code


def _say(text: str) -> None:
    complain("mount.dfsfs", text)


# -- the command line -------------------------------------------------------------------------------------------------


def parse_arguments(words: Sequence[str]) -> Arguments | None:
    """Reads the command line. None: it asked for help or the version, and that has been shown.

    Raises:
        ConfigError: it can't be understood.
    """
    try:
        # -t TYPE is what mount(8) adds for a type with a dot in it, such as fuse.dfsfs.
        pairs, rest = getopt.gnu_getopt(
            list(words), "o:t:fnsvVh", ["fake", "verbose", "foreground", "version", "help", "options="]
        )
    except getopt.GetoptError as error:
        raise ConfigError(f"{error.msg}; usage: {SYNOPSIS}") from None
    given = {name for name, _ in pairs}
    if given & {"-h", "--help"}:
        show(help_lines())
        return None
    if given & {"-V", "--version"}:
        show([f"mount.dfsfs {dfsfs.__version__}"])
        return None
    if len(rest) != 2:
        raise ConfigError(f"what to mount and where are needed; usage: {SYNOPSIS}")
    return Arguments(
        place=rest[0],
        mountpoint=rest[1],
        options=tuple(value for name, value in pairs if name in ("-o", "--options")),
        fake=bool(given & {"-f", "--fake"}),
        sloppy="-s" in given,
        verbose=bool(given & {"-v", "--verbose"}),
        foreground="--foreground" in given,
    )


def help_lines() -> list[str]:
    """What --help shows."""
    lines = [f"usage: {SYNOPSIS}", "", "Mounts a Microsoft DFS namespace, or one SMB share of it.", ""]
    lines += [*_FLAGS.splitlines(), ""]
    for group, options in GROUPS.items():
        lines.append(f"{group}:")
        for option in options:
            if option.policy is Policy.ACCEPT:
                names = ", ".join(f"{name}={option.metavar}" if option.metavar else name for name in option.names)
                long = len(names) >= 32
                lines += [f"  {names}", f"{'':<34}{option.help}"] if long else [f"  {names:<31} {option.help}"]
        lines.append("")
    lines.append("Options that say what is so anyway are ignored. All others are refused.")
    return lines


# -- mounting ---------------------------------------------------------------------------------------------------------


def _mount(arguments: Arguments, words: Sequence[str], backend: Backend) -> Verdict:
    options = parse_options(arguments.options, sloppy=arguments.sloppy)
    hide_passwords(arguments.options, words, lambda texts: replace(arguments, options=texts).as_list())
    unc = join_prefix(parse_unc(arguments.place), options)

    def warn(text: str) -> None:
        _say(f"{unc}: warning: {text}")

    if options.without_effect:
        warn("options that have no effect in dfsfs: " + ", ".join(options.without_effect))
    if options.remount:
        from dfsfs.cli.remount import remount

        return remount(unc, arguments.mountpoint, arguments.options, options, warn)
    if not arguments.fake:
        for dead in clear_dead_mounts(arguments.mountpoint):
            warn(f"a mount of {dead} was on {arguments.mountpoint} whose program had ended; it was taken away")
    mountpoint = check_mountpoint(arguments.mountpoint)
    if not options.nonempty:
        check_that_nothing_is_hidden(mountpoint)
    config = configure(parse_unc(arguments.place), options, warn)
    backend.check(config, mountpoint)
    if arguments.fake:
        return Verdict(SUCCESS)
    serve = functools.partial(_serve, config, mountpoint, backend.run)
    level = logging.DEBUG if arguments.verbose else logging.INFO
    if arguments.foreground or options.foreground:
        if is_service():
            log_to_system(level=level, mountpoint=mountpoint)
        else:
            log_to_stderr(level=level)
        return serve(lambda: log.info("%s is mounted on %s", unc, mountpoint))
    return run_in_background(
        functools.partial(_serve_detached, serve, level, mountpoint, verbose=arguments.verbose),
        timeout=_patience(options),
    )


def _patience(options: ParsedOptions) -> float:
    return STARTING + options.timeout + options.failover_timeout


def _run(config: MountConfig, mountpoint: str, on_ready: Callable[[], None]) -> None:
    with importing():
        from dfsfs.mount.assembly import run  # takes long: trio, FUSE, cryptography

    run(config, mountpoint, on_ready)


def _serve(config: MountConfig, mountpoint: str, run: Run, on_ready: Callable[[], None]) -> Verdict:
    """Runs the file system to its end, and says how that was."""
    try:
        run(config, mountpoint, on_ready)
    except Exception as error:
        verdict = describe(error, config)
        if verdict.code == SYSTEM_ERROR:
            log.debug("the mount failed", exc_info=True)
        return verdict
    return Verdict(SUCCESS)


def _serve_detached(
    serve: Callable[[Callable[[], None]], Verdict],
    level: int,
    mountpoint: str,
    on_ready: Callable[[], None],
    *,
    verbose: bool,
) -> Verdict:
    if verbose:
        log_to_stderr(level=level)
    log_to_system(level=level, mountpoint=mountpoint)
    return serve(on_ready)


# -- checks -----------------------------------------------------------------------------------------------------------


def check_fuse(
    config: MountConfig, mountpoint: str, device: str = "/dev/fuse", settings: str = "/etc/fuse.conf"
) -> None:
    """Finds out in words what FUSE would refuse with a number.

    Raises:
        MountError: FUSE is not there, or this user may not use it.
    """
    if not os.path.exists(device):
        raise MountError(SYSTEM_ERROR, f"there is no {device}; load the kernel module: modprobe fuse")
    if not os.access(device, os.R_OK | os.W_OK):
        raise MountError(USAGE, f"this user may not open {device}; mount as root, or ask the administrator")
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise MountError(SYSTEM_ERROR, "there is no fusermount3, which mounts for other users than root; install fuse3")
    if not os.access(mountpoint, os.W_OK):
        raise MountError(USAGE, f"the mount point {mountpoint} has to be a directory that this user may write to")
    for word in ("allow_other", "allow_root"):
        if word in config.fuse_options and not _has_line(settings, "user_allow_other"):
            raise MountError(USAGE, f"option {word!r} is for root only, unless {settings} has a line user_allow_other")


def _has_line(path: str, line: str) -> bool:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return any(text.strip() == line for text in file)
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
