"""Runs a command in a mount namespace of its own, where the lab's users exist: `enter.py TAG FOLDER ROOT COMMAND...`.

ROOT is / for the machine's own Samba, or a folder with the unpacked packages of another one, which takes its place for
this command and its children.

FOLDER/etc holds the files that replace those of the same name in /etc, for this command and its children only, whatever
is done to /etc outside. A small
tmpfs on FOLDER/ns, which nobody looks into, carries TAG as its source: it marks the namespace (see processes.py). The
folders of the system's own Samba are covered by empty ones: pdbedit, for one, falls back to them if it cannot read its
smb.conf.

FOLDER/run, if there is one, takes the place of /run/samba. FOLDER/net, if there is one, is a link to a network
namespace to be in, and FOLDER/mounts one to a folder whose mounts show in all namespaces: anything else that is mounted
is for the command alone.

FUSE mounts are detached in the new namespace, but for those in that folder. A mount lives as long as any namespace
holds it: a mount that happened to be there when a host started could otherwise never be unmounted while the host runs.

A file of its own, and the system calls instead of mount(8) and umount(8), because those would resolve the paths first,
which waits for the file system there, if it hangs. Standard library only; imports nothing of the project.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys

CLONE_NEWNS = 0x20000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 2

SYSTEM_FOLDERS = ("/etc/samba", "/run/samba", "/var/cache/samba", "/var/lib/samba", "/var/log/samba")
"""Where a Samba that belongs to the machine keeps its things."""
SOCKETS = "/run/samba"
"""Where the libraries of Samba look for winbindd, whatever smb.conf says."""
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PRIVATE_FOLDERS = (f"{LIBRARIES}/samba", "usr/libexec/samba", "usr/share/samba")
"""Where a Samba looks for its modules, helpers and tables: the paths are compiled in."""
PROGRAMS = ("usr/sbin", "usr/bin")
TMPFS = "size=4m,mode=755"
ETC, REAL_ETC, OWN_ETC = "/etc", ".of-the-machine", ".of-the-lab"
"""/etc, and what it has below it in the namespace: the machine's own, and the files that replace some of it."""

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    arguments = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    result = _libc.mount(*arguments, ctypes.c_ulong(flags), None if data is None else data.encode())
    _check(result, f"mount {target}")


def _mounts(kind: bytes = b"") -> list[bytes]:
    """Where file systems of a kind are mounted, in this namespace."""
    found = []
    with open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:
            front, _, back = line.partition(b" - ")
            if back.startswith(kind):
                target = front.split(b" ")[4]
                found.append(re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), target))
    return found


def _keep_private(shared: str) -> None:
    """Has mounts made in here show in here only, but for those below the folder that `shared` is a link to."""
    if not os.path.islink(shared):
        _mount("none", "/", None, MS_REC | MS_PRIVATE)
        return
    for target in _mounts():
        if os.fsdecode(target) != os.path.realpath(shared):
            _libc.mount(None, target, None, ctypes.c_ulong(MS_PRIVATE), None)  # it may be hidden below another one


def _replace_etc(tag: str, own: str, aside: str) -> None:
    """Covers /etc by a folder of links to the files in it, and to those of `own` where there is one of the same name.

    A file mounted on /etc/passwd would do, if nobody added a user to the machine meanwhile: useradd renames a new file
    onto that name, and with the name the kernel takes away what is mounted there in all other namespaces.
    `aside` is a folder to make, on a file system of this namespace.
    """
    names = set(os.listdir(ETC)) - {REAL_ETC, OWN_ETC}
    os.mkdir(aside)
    _mount(ETC, aside, None, MS_BIND | MS_REC)
    _mount(tag, ETC, "tmpfs", 0, TMPFS)
    for place, source in ((REAL_ETC, aside), (OWN_ETC, own)):
        os.mkdir(os.path.join(ETC, place))
        _mount(source, os.path.join(ETC, place), None, MS_BIND | MS_REC)
    places = dict.fromkeys(names, REAL_ETC) | dict.fromkeys(os.listdir(own), OWN_ETC)
    for name, place in places.items():
        os.symlink(os.path.join(place, name), os.path.join(ETC, name))


def enter(tag: str, folder: str, root: str) -> None:
    """Moves this process into a new, tagged mount namespace with the Samba of `root`. OSError if the kernel refuses."""
    network = os.path.join(folder, "net")
    if os.path.islink(network):
        fd = os.open(network, os.O_RDONLY)
        _check(_libc.setns(fd, CLONE_NEWNET), "setns")
        os.close(fd)
    _check(_libc.unshare(CLONE_NEWNS), "unshare")
    shared = os.path.join(folder, "mounts")
    _keep_private(shared)
    kept = os.fsencode(os.path.realpath(shared)) + b"/" if os.path.islink(shared) else None
    for mounted in _mounts(b"fuse"):
        if kept is None or not mounted.startswith(kept):
            _libc.umount2(mounted, MNT_DETACH)  # a failure only means that this one stays pinned
    for target in (os.path.join(folder, "ns"), *filter(os.path.isdir, SYSTEM_FOLDERS)):
        _mount(tag, target, "tmpfs", 0, TMPFS)
    run = os.path.join(folder, "run")
    if os.path.isdir(run):
        os.makedirs(SOCKETS, exist_ok=True)
        _mount(run, SOCKETS, None, MS_BIND)
    _replace_etc(tag, os.path.join(folder, "etc"), os.path.join(folder, "ns", "etc"))
    if root != "/":
        for private in PRIVATE_FOLDERS:
            _mount(os.path.join(root, private), os.path.join("/", private), None, MS_BIND)
        os.environ["LD_LIBRARY_PATH"] = os.path.join(root, LIBRARIES)
        os.environ["PATH"] = os.pathsep.join([*(os.path.join(root, one) for one in PROGRAMS), os.environ["PATH"]])


def main() -> None:
    tag, folder, root, *command = sys.argv[1:]
    try:
        enter(tag, folder, root)
        os.execvp(command[0], command)
    except OSError as error:
        sys.exit(f"{command[0]}: cannot start in its own mount namespace: {error}")


if __name__ == "__main__":
    main()
