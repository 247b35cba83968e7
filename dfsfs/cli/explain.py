"""The command `dfsfs explain`: how a path of a namespace is resolved, step by step, and which of its targets answer.

It asks servers anew, as a mount with the same options would at its first access, and changes nothing.
"""

from __future__ import annotations

import getopt
import sys
import time
from typing import TYPE_CHECKING

from dfsfs.cli.configure import configure, hide_passwords
from dfsfs.cli.messages import SUCCESS, USAGE, MountError, Verdict, describe, one_line
from dfsfs.config import ConfigError, parse_options, parse_unc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.junction import Junction
    from dfsfs.smb.pool import Pool
    from dfsfs.smb.tickets import KdcPreference
    from dfsfs.unc import UncPath

SYNOPSIS = "dfsfs explain //SERVER/NAMESPACE[/FOLDER...] [-o OPTION[,OPTION...]]"
HELP = f"""\
usage: {SYNOPSIS}

Shows how a path is resolved: what the cache has, who is asked for a referral, what the answers say, which namespaces
the path leads through, and which target it comes to. Then every target is tried.

The options are those of mount.dfsfs; the password is asked for or comes from where mount.dfsfs takes it."""

PROBE_TIMEOUT = 10.0
"""Seconds for one target."""


def main(words: Sequence[str]) -> int:
    """Runs the command and returns the exit code."""
    try:
        given, rest = getopt.gnu_getopt(list(words), "o:h", ["help", "options="])
    except getopt.GetoptError as error:
        return _fail(Verdict(USAGE, f"{error.msg}; usage: {SYNOPSIS}"))
    if any(name in ("-h", "--help") for name, _ in given):
        print(HELP)
        return SUCCESS
    if len(rest) != 1:
        return _fail(Verdict(USAGE, f"one path is needed; usage: {SYNOPSIS}"))
    texts = tuple(value for _, value in given)
    try:
        unc = parse_unc(rest[0])
        options = parse_options(texts)
        hide_passwords(texts, words, lambda clean: [rest[0], *(w for text in clean for w in ("-o", text))])
        return _run(configure(unc, options, lambda text: print(f"dfsfs: warning: {text}", file=sys.stderr)))
    except ConfigError as error:
        return _fail(Verdict(USAGE, str(error)))
    except MountError as error:
        return _fail(error.verdict)


def _fail(verdict: Verdict) -> int:
    print(f"dfsfs: {one_line(verdict.text)}", file=sys.stderr)
    return verdict.code


def _run(config: MountConfig) -> int:
    import trio  # takes long, as all that it needs

    from dfsfs.smb.credentials import KerberosCredentials
    from dfsfs.smb.tickets import KdcPreference

    try:
        kdcs = KdcPreference() if isinstance(config.credentials, KerberosCredentials) else None
        trio.run(_explain, config, kdcs, strict_exception_groups=True)
    except Exception as error:
        return _fail(describe(error, config))
    return SUCCESS


async def _explain(config: MountConfig, kdcs: KdcPreference | None) -> None:
    from functools import partial

    import trio

    from dfsfs.fuse.session import make_namespace, referral_settings, tell_kdcs, transport_settings
    from dfsfs.smb.pool import Pool

    async with Pool(transport_settings(config), config.credentials) as pool:
        namespace = make_namespace(config, pool, referral_settings(config))
        if kdcs is not None:
            namespace.discovery.on_found = partial(tell_kdcs, kdcs)
        started = trio.current_time()
        namespace.telemetry.listen(lambda event: print(f"{trio.current_time() - started:8.3f} s  {event}"))
        location, stat = await namespace.find(config.unc)
        kind = "folder" if stat.is_directory else f"file of {stat.size} bytes"
        print(f"{config.unc} is a {kind}. Its targets, in the order in which they are tried:")
        await _probe(pool, location.junction, location.components)


async def _probe(pool: Pool, junction: Junction, components: tuple[str, ...]) -> None:
    from dfsfs.namespace.targets import targets_for

    assert junction.resolution is not None
    assert junction.binding is not None
    for target in targets_for(junction, junction.resolution):
        mark = "*" if target == junction.binding.target else " "
        print(f"  {mark} {target.join(components)}: {await _state(pool, target.join(components))}")


async def _state(pool: Pool, path: UncPath) -> str:
    import trio

    from dfsfs.errors import DfsfsError

    started = time.monotonic()
    try:
        with trio.move_on_after(PROBE_TIMEOUT):
            tree = await pool.tree(path.share)
            await tree.stat(path)
            return f"answers, {(time.monotonic() - started) * 1000:.0f} ms"
    except DfsfsError as error:
        return str(error)
    return f"no answer within {PROBE_TIMEOUT:g} s"
