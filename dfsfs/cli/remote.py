"""For commands that go to servers themselves, without a mount: they log in as mount.dfsfs would, work, and log off."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from dfsfs.cli.command import warn
from dfsfs.cli.configure import configure, hide_passwords
from dfsfs.cli.messages import MountError, describe
from dfsfs.config.options import parse_options
from dfsfs.config.place import parse_unc

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from dfsfs.config.model import MountConfig
    from dfsfs.namespace.client import Namespace
    from dfsfs.namespace.enumeration import FoundLink, NamespaceLinks
    from dfsfs.smb.auth.kerberos import KdcPreference
    from dfsfs.smb.pool import Pool
    from dfsfs.unc import UncPath
    from dfsfs.vfs.names.mapping import NameMapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Remote:
    """A namespace, ready to be asked. `names` maps names of files as a mount with these options would."""

    config: MountConfig
    pool: Pool
    namespace: Namespace
    names: NameMapping

    def path(self, unc: UncPath) -> UncPath:
        """A path with its names as they go on the wire. Raises PosixError."""
        import os

        inner = [self.names.to_wire(os.fsencode(name)) for name in unc.components[2:]]
        return unc.share.join(inner)


def hide_options(arguments: argparse.Namespace, words: Sequence[str]) -> None:
    """Gets passwords out of the command line, which starts this program anew if there are any."""
    texts = tuple(arguments.options)
    others = _drop_options(words)
    hide_passwords(texts, words, lambda clean: [*others, *(word for text in clean for word in ("-o", text))])


def _drop_options(words: Sequence[str]) -> list[str]:
    """The words but for -o and its values. What follows `--` stays behind it."""
    rest: list[str] = []
    skip = False
    for index, word in enumerate(words):
        if word == "--":
            return [*rest, *words[index + 1 :]]
        if skip or word in ("-o", "--options"):
            skip = not skip
        elif not word.startswith(("-o", "--options=")):
            rest.append(word)
    return rest


def config_for(text: str, arguments: argparse.Namespace) -> MountConfig:
    """The configuration for a UNC path and the options of the command. Raises ConfigError, MountError."""
    return configure(parse_unc(text), parse_options(tuple(arguments.options)), warn)


def run(config: MountConfig, work: Callable[[Remote], Awaitable[T]]) -> T:
    """The result of some work in a namespace.

    Raises:
        MountError: what the work raised, in words and with an exit code.
    """
    import trio

    from dfsfs.smb.auth.credentials import KerberosCredentials
    from dfsfs.smb.auth.kerberos import KdcPreference

    async def work_connected() -> T:
        async with _connect(config, kdcs) as remote:
            return await work(remote)

    try:
        kdcs = KdcPreference() if isinstance(config.credentials, KerberosCredentials) else None
        return trio.run(work_connected, strict_exception_groups=True)
    except BaseExceptionGroup as errors:
        interrupted = errors.subgroup((KeyboardInterrupt, SystemExit))
        if interrupted is not None:
            raise KeyboardInterrupt from None
        if errors.subgroup(BrokenPipeError) is not None:
            raise BrokenPipeError from None  # of stdout: those of connections are errors of ours
        raise _describe(errors, config) from errors
    except BrokenPipeError:
        raise
    except Exception as error:
        raise _describe(error, config) from error


def run_to_the_end(config: MountConfig, work: Callable[[Remote], Awaitable[T]]) -> T:
    """The same for work that has something to put in order if the program is asked to end: it is cancelled then.

    Raises:
        KeyboardInterrupt: it was asked to end by SIGINT, SIGTERM or SIGHUP.
    """
    import trio

    from dfsfs.cli.parts import signals_to_heed

    endings = signals_to_heed()
    if not endings:
        return run(config, work)

    async def until_asked(remote: Remote) -> T:
        result: list[T] = []
        async with trio.open_nursery() as nursery:

            async def wait_for_signal(task_status: trio.TaskStatus[None]) -> None:
                with trio.open_signal_receiver(*endings) as signals:
                    task_status.started()
                    async for _ in signals:
                        break
                nursery.cancel_scope.cancel()

            await nursery.start(wait_for_signal)
            result.append(await work(remote))
            nursery.cancel_scope.cancel()
        if not result:
            raise KeyboardInterrupt
        return result[0]

    return run(config, until_asked)


def _describe(error: BaseException, config: MountConfig) -> MountError:
    verdict = describe(error, config)
    return MountError(verdict.code, verdict.text)


@asynccontextmanager
async def _connect(config: MountConfig, kdcs: KdcPreference | None) -> AsyncIterator[Remote]:
    from dfsfs.namespace.assembly import make_namespace, referral_settings, transport_settings
    from dfsfs.smb.pool import Pool
    from dfsfs.vfs.names.mapping import NameMapping, NameStyle

    async with Pool(transport_settings(config), config.credentials) as pool:
        namespace = make_namespace(config, pool, referral_settings(config), kdcs)
        yield Remote(config, pool, namespace, NameMapping(NameStyle[config.name_style.upper()]))


async def survey_of(remote: Remote, tell: Callable[[FoundLink], None] = lambda link: None) -> NamespaceLinks:
    """What is at and below the path that the command names. `tell` is called with each link. Raises DfsfsError."""
    from dfsfs.namespace.enumeration import enumerate_links

    location, _ = await remote.namespace.find(remote.path(remote.config.unc))
    return await enumerate_links(remote.namespace, location, tell)
