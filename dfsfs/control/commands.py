"""The commands that a running mount understands, by their names on the control socket.

    status                          everything on one page
    cache.show, cache.flush         [prefix]: the referral cache
    domain.show, domain.flush       the domains and their controllers
    target.list                     path: the targets of the link that a path is in
    target.set                      path, target (a server, or a whole path): the one to use from now on
    target.unset                    path: the namespace decides again
    drain, undrain                  host, [dry_run]: no link stays on that server if it has another one; links may go
                                    there again. With dry_run it is only said what would be done
    explain                         path, [all_roots]: how it is resolved
    remount                         options, [username, domain, password, password2]: changes what can be changed

A path is below the mount point, or a UNC path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import trio

from dfsfs.config.assembly import Mounter
from dfsfs.control import answers, report
from dfsfs.control.explaining import explain_path
from dfsfs.control.protocol import WRONG, ControlError, Request
from dfsfs.control.remount import change_config
from dfsfs.errormessages import describe_error
from dfsfs.errors import DfsfsError
from dfsfs.namespace.targets import targets_for
from dfsfs.unc import UncError, UncPath, fold_name, is_unc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from dfsfs.control.mount import Mount
    from dfsfs.namespace.junction import Junction

    Arguments = Mapping[str, str]
    Answer = (
        answers.Status
        | list[answers.CachedReferral]
        | answers.Flushed
        | answers.Domains
        | answers.Targets
        | answers.Drained
        | answers.Explanation
        | answers.Remounted
    )
    Command = Callable[[Mount, Arguments], Awaitable[Answer]]

AT_ONCE = 200
"""Items of a list that are made before other tasks get their turn: there may be 50,000, and programs wait."""


async def answer(mount: Mount, request: Request) -> Answer:
    """Carries a request out. Raises ControlError."""
    if request.command not in COMMANDS:
        raise ControlError(f"there is no command {request.command!r}", WRONG)
    command, known = COMMANDS[request.command]
    unknown = set(request.arguments) - set(known)
    if unknown:
        raise ControlError(f"{request.command} has no argument {min(unknown)!r}", WRONG)
    try:
        return await command(mount, request.arguments)
    except DfsfsError as error:
        raise ControlError(describe_error(error, mount.config)) from None


async def _status(mount: Mount, _: Arguments) -> answers.Status:
    return report.status_of(mount)


async def _show_cache(mount: Mount, arguments: Arguments) -> list[answers.CachedReferral]:
    found: list[answers.CachedReferral] = []
    prefix, referrals = _prefix(mount, arguments), mount.namespace.caches.referrals
    for entry in referrals.snapshot() if prefix is None else referrals.below(prefix):
        found.append(report.referral_of(entry, mount.clock()))
        if len(found) % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    return found


async def _flush_cache(mount: Mount, arguments: Arguments) -> answers.Flushed:
    return answers.Flushed(mount.namespace.flush(_prefix(mount, arguments)))


async def _show_domains(mount: Mount, _: Arguments) -> answers.Domains:
    return report.domains_of(mount)


async def _flush_domains(mount: Mount, _: Arguments) -> answers.Flushed:
    return answers.Flushed(await mount.namespace.flush_domains())


async def _explain(mount: Mount, arguments: Arguments) -> answers.Explanation:
    path, all_roots = _path(mount, arguments), bool(arguments.get("all_roots"))
    return await explain_path(mount.config, mount.namespace, mount.pool, path, all_roots=all_roots)


async def _list_targets(mount: Mount, arguments: Arguments) -> answers.Targets:
    prefix, junctions = await _link(mount, arguments)
    return report.targets_of(mount, prefix, _all_targets(junctions), junctions)


async def _set_target(mount: Mount, arguments: Arguments) -> answers.Targets:
    prefix, junctions = await _link(mount, arguments)
    target = _choose(_all_targets(junctions), arguments.get("target", ""), prefix)
    overrides = mount.namespace.overrides
    if overrides.is_drained(target):
        raise ControlError(f"{target.host} is drained; dfsfs drain --undo {target.host} first", WRONG)
    moved = [await mount.namespace.move(junction, target) for junction in junctions]
    if not all(moved):
        raise ControlError(f"{target} does not answer, so {prefix} stays where it is")
    overrides.chosen[prefix] = target
    return report.targets_of(mount, prefix, _all_targets(junctions), junctions)


async def _unset_target(mount: Mount, arguments: Arguments) -> answers.Targets:
    prefix, junctions = await _link(mount, arguments)
    mount.namespace.overrides.chosen.pop(prefix, None)
    for junction in junctions:
        mount.namespace.recheck_failback(junction)
    return report.targets_of(mount, prefix, _all_targets(junctions), junctions)


async def _drain(mount: Mount, arguments: Arguments) -> answers.Drained:
    host, only_said = _host(arguments), bool(arguments.get("dry_run"))
    overrides = mount.namespace.overrides
    known = await _servers(mount)
    full = _full_name(known, host)
    name = full or host
    if not only_said:
        overrides.drained[fold_name(name)] = name
    links = []
    for junction in mount.namespace.junctions():
        if junction.binding is None or fold_name(junction.binding.target.host) != fold_name(name):
            continue
        old = junction.binding.target
        others = [target for target in _all_targets([junction]) if not overrides.is_drained(target) and target != old]
        to = next((target for target in others if fold_name(target.host) != fold_name(name)), None)
        if not only_said:
            to = await _move_to_first(mount, junction, others)
        links.append(answers.DrainedLink(str(junction.prefix), str(old), None if to is None else str(to)))
    return answers.Drained(name, tuple(links), known=full is not None, servers=tuple(known))


async def _move_to_first(mount: Mount, junction: Junction, targets: list[UncPath]) -> UncPath | None:
    """Moves a junction to the first of some targets that answers, and says to which; None if there is none."""
    for target in targets:
        if await mount.namespace.move(junction, target):
            return target
    return None


async def _undrain(mount: Mount, arguments: Arguments) -> answers.Drained:
    host, only_said = _host(arguments), bool(arguments.get("dry_run"))
    drained = mount.namespace.overrides.drained
    known = sorted(drained.values())
    full = _full_name(known, host)
    if only_said:
        return answers.Drained(full or host, known=full is not None, servers=tuple(known))
    if full is None:
        raise ControlError(f"{host} is not drained", WRONG)
    del drained[fold_name(full)]
    for junction in mount.namespace.junctions():
        mount.namespace.recheck_failback(junction)
    return answers.Drained(full, servers=tuple(known))


async def _servers(mount: Mount) -> list[str]:
    """The servers of all targets that the mount has heard of, and those that are drained."""
    namespace = mount.namespace
    hosts = dict(namespace.overrides.drained)
    for number, entry in enumerate(namespace.caches.referrals.snapshot(), 1):
        hosts |= {fold_name(target.path.host): target.path.host for target in entry.targets}
        if number % AT_ONCE == 0:
            await trio.lowlevel.checkpoint()
    for target in _all_targets(namespace.junctions()):
        hosts[fold_name(target.host)] = target.host
    return sorted(hosts.values())


def _full_name(known: list[str], host: str) -> str | None:
    """The one of some servers that is called that; None if none is. Raises ControlError: several are."""
    found = [name for name in known if fold_name(name) == fold_name(host)]
    found = found or [name for name in known if _is_named(name, host)]
    if len(found) > 1:
        raise ControlError(f"{host} may be {' or '.join(found)}; name one of them", WRONG)
    return found[0] if found else None


async def _remount(mount: Mount, arguments: Arguments) -> answers.Remounted:
    login = {name: arguments[name] for name in _LOGIN if name in arguments}
    mounter = Mounter(os.geteuid(), os.getegid(), _no_name, _no_name)
    config, names = change_config(mount.config, arguments.get("options", ""), login, mounter)
    mount.apply(config)
    mount.config = config
    mount.namespace.flush()
    return answers.Remounted(names)


_LOGIN = ("username", "domain", "password", "password2")


def _no_name(name: str) -> int:
    raise KeyError(name)  # owners can't change, so none is looked up


COMMANDS: Mapping[str, tuple[Command, tuple[str, ...]]] = {
    "status": (_status, ()),
    "cache.show": (_show_cache, ("prefix",)),
    "cache.flush": (_flush_cache, ("prefix",)),
    "domain.show": (_show_domains, ()),
    "domain.flush": (_flush_domains, ()),
    "target.list": (_list_targets, ("path",)),
    "target.set": (_set_target, ("path", "target")),
    "target.unset": (_unset_target, ("path",)),
    "drain": (_drain, ("host", "dry_run")),
    "undrain": (_undrain, ("host", "dry_run")),
    "explain": (_explain, ("path", "all_roots")),
    "remount": (_remount, ("options", *_LOGIN)),
}
"""Each command with the names of its arguments."""


# -- arguments --------------------------------------------------------------------------------------------------------


def _path(mount: Mount, arguments: Arguments) -> UncPath:
    """The namespace path that an argument names; its link as the mount spells it, if it knows one."""
    text = arguments.get("path", "")
    try:
        if is_unc(text):
            path = UncPath.parse(text)
        else:
            names = mount.filesystem.wire_names(part for part in text.split("/") if part not in ("", "."))
            path = mount.config.unc.join(names)
    except (UncError, DfsfsError) as error:
        raise ControlError(str(error), WRONG) from None
    known = mount.namespace.find_known(path)
    return path if known is None else known.unc


def _prefix(mount: Mount, arguments: Arguments) -> UncPath | None:
    text = arguments.get("prefix", "")
    return _path(mount, {"path": text}) if text else None


def _host(arguments: Arguments) -> str:
    host = arguments.get("host", "").strip("/\\")
    if not host:
        raise ControlError("a server is needed", WRONG)
    return host


async def _link(mount: Mount, arguments: Arguments) -> tuple[UncPath, list[Junction]]:
    """The root or link that a path is in, and its junctions: one, or one for each user."""
    path = _path(mount, arguments)
    try:
        location, _ = await mount.namespace.find(path)
    except DfsfsError:
        known = mount.namespace.find_known(path)
        if known is None or known.junction.for_caller().resolution is None:
            raise
        location = known
    prefix = location.junction.prefix
    return prefix, [junction for junction in mount.namespace.junctions() if junction.prefix == prefix]


def _all_targets(junctions: list[Junction]) -> list[UncPath]:
    """The targets of a link's junctions, in the order of the referral."""
    resolutions = [(junction, junction.resolution) for junction in junctions if junction.resolution is not None]
    return list(dict.fromkeys(target for junction, found in resolutions for target in targets_for(junction, found)))


def _choose(targets: list[UncPath], text: str, prefix: UncPath) -> UncPath:
    """The target that a text names: a path, or a server in its short or long form."""
    if is_unc(text):
        try:
            wanted = UncPath.parse(text)
        except UncError as error:
            raise ControlError(str(error), WRONG) from None
        found = [target for target in targets if target == wanted]
    else:
        found = [target for target in targets if _is_named(target.host, text)]
    if len(found) == 1:
        return found[0]
    shown = ", ".join(map(str, targets))
    if found:
        raise ControlError(f"{text} is the server of {len(found)} targets of {prefix}; name one of {shown}", WRONG)
    raise ControlError(f"{text or 'nothing'} is no target of {prefix}; these are: {shown}", WRONG)


def _is_named(host: str, text: str) -> bool:
    """Whether a server is called that, in full or by the first part of its name."""
    known, wanted = fold_name(host), fold_name(text)
    return known == wanted or known.split(".")[0] == wanted
