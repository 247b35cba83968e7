"""The steps of scripts/demo after the set-up. Each checks that what it tells has happened."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.lab.__main__ import lab_to_keep, mount_words  # noqa: E402
from tests.support.lab.samba import Lab, LabError, LabHost, free_net  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator


class DemoError(Exception):
    """A step that did not happen; the text says which."""


def say(text: str) -> None:
    print(text, flush=True)


def expect(happened: bool, what: str) -> None:
    if not happened:
        raise DemoError(what)


@contextlib.contextmanager
def mounted(lab: Lab, mountpoint: Path) -> Iterator[None]:
    """The namespace of the lab, mounted while the context lasts."""
    command = [str(ROOT / ".venv/bin/mount.dfsfs"), lab.root_unc, str(mountpoint), "-o", "actimeo=0"]
    say(f"   $ PASSWD=... mount.dfsfs {lab.root_unc} {mountpoint} -o username={lab.credentials.user}")
    environment = {**os.environ, "USER": lab.credentials.user, "PASSWD": lab.credentials.password}
    started = time.monotonic()
    subprocess.run(command, env=environment, check=True, timeout=60)
    expect(mountpoint.is_mount(), f"{mountpoint} is not mounted, though mount.dfsfs says so")
    say(f"   mounted after {time.monotonic() - started:.2f} seconds")
    try:
        yield
    finally:
        subprocess.run(["umount", str(mountpoint)], check=False, timeout=60)
        if mountpoint.is_mount():
            subprocess.run(["umount", "-l", str(mountpoint)], check=False, timeout=60)
    expect(not mountpoint.is_mount(), f"{mountpoint} could not be unmounted")


def show_tree(mountpoint: Path) -> None:
    for entry in sorted(mountpoint.iterdir()):
        kind = "folder or link" if entry.is_dir() else f"file of {entry.stat().st_size} bytes"
        say(f"   {entry.name:<18}{kind}")
    for name in ("link-single", "dir/sub/link", "interlink/deep"):
        names = sorted(os.listdir(mountpoint / name))
        expect(bool(names), f"{name} leads nowhere")
        say(f"   {name + '/':<18}{', '.join(names)}")


def copy_between_links(lab: Lab, mountpoint: Path) -> None:
    source, copy = mountpoint / "link-single/big.bin", mountpoint / "link-secret/copy-of-big.bin"
    subprocess.run(["cp", str(source), str(copy)], check=True, timeout=60)
    on_disk = lab.host("fs3").share_path("secret") / "copy-of-big.bin"
    expect(on_disk.read_bytes() == source.read_bytes(), "the copy differs from the original")
    say(f"   {source.stat().st_size:,} bytes: fs1 has sent them signed, fs3 has got them encrypted, both have the same")
    copy.unlink()
    expect(not on_disk.exists(), "the copy could not be removed")


def ask(*words: str) -> str:
    """What a command says of the mount, shown to whoever looks on, too."""
    command = [str(ROOT / ".venv/bin/dfsfs"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    say(f"   $ dfsfs {' '.join(words)}")
    for line in done.stdout.splitlines():
        say(f"   {line}".rstrip())
    return done.stdout


def explain(lab: Lab, mountpoint: Path) -> None:
    said = ask("explain", str(mountpoint / "link-multi/hello.txt"))
    for host in ("fs1", "fs2"):
        expect(f"//{lab.address(host)}/" in said, f"explain should name {host}, a target of link-multi")


def show_status(lab: Lab, mountpoint: Path) -> None:
    said = ask("status", str(mountpoint))
    expect("failed over" in said, "status should say that link-multi has failed over")
    expect(lab.address("fs2") in said, "status should show the server that link-multi is on")


def serving(lab: Lab) -> list[LabHost]:
    return [lab.host(name) for name in ("fs1", "fs2") if lab.host(name).connections()]


def fail_over(lab: Lab, mountpoint: Path) -> None:
    file = mountpoint / "link-multi/hello.txt"
    before = file.read_text()
    servers = serving(lab)
    expect([host.name for host in servers] == ["fs1"], "link-multi should be served by fs1, the first of its targets")
    say(f"   link-multi is served by fs1 ({lab.address('fs1')}); it says: {before.strip()!r}")
    servers[0].kill()
    expect(not servers[0].running, "fs1 could not be stopped")
    say("   fs1 has been killed")
    started = time.monotonic()
    after = file.read_text()
    expect(after == before, "the other target's file differs")
    expect([host.name for host in serving(lab)] == ["fs2"], "fs2 should serve link-multi now")
    say(f"   read again after {time.monotonic() - started:.2f} seconds, now from fs2 ({lab.address('fs2')}), no error")


def demo() -> None:
    say("2. Starting five Samba servers: two with a namespace, three with the files")
    with Lab(net=free_net()) as lab, tempfile.TemporaryDirectory(prefix="dfsfs-demo-") as folder:
        say(f"   up on {lab.address('ns1')} to {lab.address('fs3')}, each knows nothing of this computer's own Samba")
        mountpoint = Path(folder)
        say("3. Mounting the namespace")
        with mounted(lab, mountpoint):
            say("4. What users see: links are folders, wherever they lead")
            show_tree(mountpoint)
            say("5. Copying a file from one link to another, that is from one server to another")
            copy_between_links(lab, mountpoint)
            say("6. A server dies, its users go on")
            fail_over(lab, mountpoint)
            say("7. Where is that file now, and why?")
            explain(lab, mountpoint)
            say("8. What the mount has to say of all that")
            show_status(lab, mountpoint)
            say("9. Unmounting, stopping the servers")
    expect(not lab.state.exists(), f"the lab has left {lab.state} behind")
    say("Done. Nothing is left running. To play with such servers for as long as you like:")
    say("   scripts/lab up")
    say(f"   mkdir -p /mnt/dfs && {mount_words(lab_to_keep())}")
    say("   umount /mnt/dfs && scripts/lab down")
    say("Next: README.md, mounting for real.")


def main() -> int:
    try:
        demo()
    except (DemoError, LabError, OSError, subprocess.SubprocessError) as error:
        print(f"scripts/demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
