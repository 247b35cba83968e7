"""mount(8) and /etc/fstab: in a mount namespace of their own, with a fstab and helpers that only it sees."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import COMMAND

if TYPE_CHECKING:
    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]


NOBODY = 65534
ROOT = Path(__file__).parent.parent.parent


class Machine:
    """A mount namespace in which /sbin/mount.dfsfs is ours and /etc/fstab is what a test says."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.folder = lab, folder
        self.credentials = folder / "credentials"
        user, password = lab.credentials
        self.credentials.write_text(f"username={user}\npassword={password}\n")
        self.credentials.chmod(0o600)
        (folder / "mnt").mkdir()
        self.mountpoint = folder / "mnt"

    def run(self, script: str, *lines: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell script with these lines in fstab. What is still mounted at its end goes with the namespace."""
        fstab = self.folder / "fstab"
        fstab.write_text("".join(f"{line}\n" for line in lines))
        helper = self.folder / "mount.dfsfs"
        helper.unlink(missing_ok=True)
        helper.symlink_to(COMMAND)
        m = shlex.quote(str(self.mountpoint))
        setup = f"""
            set -e
            mount --make-rprivate /
            mount --bind {fstab} /etc/fstab
            # Nothing is written to the machine's own /sbin: an overlay shows the helper there.
            mkdir -p {self.folder}/upper
            mount -t tmpfs tmpfs {self.folder}/upper
            mkdir {self.folder}/upper/u {self.folder}/upper/w
            # As udev leaves it; a machine without udev may keep it for root.
            mknod -m 666 {self.folder}/upper/fuse c 10 229
            mount --bind {self.folder}/upper/fuse /dev/fuse
            cd {self.folder}
            if [ -d checkout ]; then
                mount --bind {ROOT} {self.folder}/checkout
                printf '%s\\n' '#!/bin/sh' 'PYTHONPATH={self.folder}/checkout' 'export PYTHONPATH' \\
                    'exec {self.folder}/checkout/.venv/bin/python -m dfsfs.cli.mount "$@"' > upper/u/mount.dfsfs
                chmod 755 upper/u/mount.dfsfs
            else
                cp -P {helper} upper/u/mount.dfsfs
            fi
            ln -s mount.dfsfs upper/u/mount.fuse.dfsfs
            cd {self.folder}/upper
            mount -t overlay overlay -o lowerdir=/usr/sbin,upperdir=u,workdir=w /usr/sbin
            cd /
            m={m}
            trap 'umount -l {m} 2>/dev/null || true' EXIT
        """
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", setup + script],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
            stdin=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith("PASSWD")},
        )

    def for_others(self) -> str:
        """Gives the machine's files to NOBODY; the words that run `dfsfs` wherever it is.

        The checkout may be in a folder that only root can enter, so it is seen at another place, too.
        """
        for folder in (self.folder, *list(self.folder.parents)[:3]):
            folder.chmod(0o755)
        for path in (self.mountpoint, self.credentials):
            os.chown(path, NOBODY, NOBODY)
        (self.folder / "checkout").mkdir()
        return f"env PYTHONPATH={self.folder}/checkout {self.folder}/checkout/.venv/bin/python -m dfsfs.cli.main"

    def line(self, options: str, where: str = "", what: str = "") -> str:
        """A line of fstab."""
        given = f"credentials={self.credentials},{options}"
        return f"{what or self.lab.root_unc} {where or self.mountpoint} dfsfs {given} 0 0"


@pytest.fixture
def machine(lab: Lab, tmp_path: Path) -> Machine:
    return Machine(lab, tmp_path)


def test_a_line_of_fstab(machine: Machine) -> None:
    script = """
        mount $m
        findmnt -J -o TARGET,SOURCE,FSTYPE,OPTIONS $m
        df --output=source,target $m | tail -1
        cat $m/link-multi/hello.txt
        umount $m
        findmnt $m || echo gone
    """
    done = machine.run(script, machine.line("_netdev,nofail,ro,x-systemd.automount,x-anything=1"))
    assert done.returncode == 0, done.stderr
    text, _, rest = done.stdout.partition("\n}\n")
    (entry,) = json.loads(text + "}")["filesystems"]
    assert (entry["source"], entry["fstype"]) == (machine.lab.root_unc, "fuse.dfsfs")
    assert {"ro", "nosuid", "nodev", "allow_other"} <= set(entry["options"].split(","))
    shown, hello, gone = rest.splitlines()
    assert shown.split() == [machine.lab.root_unc, str(machine.mountpoint)]
    assert (hello, gone) == ("hello from data", "gone")


def test_whose_loop_reads_the_requests_can_be_said_in_fstab(machine: Machine) -> None:
    """mount(8) keeps `loop=` for itself, so the option has a name that gets through. A birth time is native's alone."""
    script = "mount $m; cat $m/link-multi/hello.txt; stat -c %W $m/link-multi/hello.txt; umount $m"
    born = {}
    for loop in ("native", "pyfuse3"):
        done = machine.run(script, machine.line(f"_netdev,fuse_loop={loop}"))
        assert done.returncode == 0, done.stderr
        hello, born[loop] = done.stdout.splitlines()
        assert hello == "hello from data"
    assert int(born["native"]) > 0 and int(born["pyfuse3"]) == 0


def test_mount_a_and_a_line_that_must_not_hold_the_boot_up(machine: Machine) -> None:
    dead = machine.folder / "dead"
    dead.mkdir()
    lines = (
        machine.line("_netdev,nofail", str(dead), f"//{machine.lab.address('dead1')}/x"),
        machine.line("_netdev"),
        machine.line("noauto", str(machine.folder / "never")),
    )
    done = machine.run("mount -a -t dfsfs || echo code $?; ls $m", *lines)
    assert "link-multi" in done.stdout
    assert f"//{machine.lab.address('dead1')}/x: can't connect to" in done.stderr


def test_a_name_with_a_space(machine: Machine) -> None:
    place = machine.folder / "with space"
    place.mkdir()
    line = machine.line("ro", str(place).replace(" ", "\\040"), f"{machine.lab.root_unc}/dir")
    done = machine.run(f"mount '{place}' && ls '{place}' && umount '{place}'", line)
    assert (done.returncode, done.stdout) == (0, "note.txt\nsub\n"), done.stderr


def test_remount_and_its_refusals(machine: Machine) -> None:
    script = """
        mount $m
        mount -o remount,ro $m && findmnt -no OPTIONS $m | tr , '\\n' | grep -x ro
        touch $m/link-single/x 2>&1 || true
        mount -o remount,rw $m && findmnt -no OPTIONS $m | tr , '\\n' | grep -x rw
        mount -o remount,uid=12345 $m || echo code $?
    """
    done = machine.run(script, machine.line("_netdev"))
    assert done.returncode == 0, done.stderr
    ro, touch, rw, code = done.stdout.splitlines()
    assert (ro, rw, code) == ("ro", "rw", "code 1")
    assert "Read-only file system" in touch
    assert "can't be changed while it is mounted: uid" in done.stderr


def test_a_busy_mount_and_the_ways_to_take_it_down(machine: Machine) -> None:
    script = """
        mount $m; (cd $m/link-multi && exec sleep 60) & sleeper=$!
        until [ "$(readlink /proc/$sleeper/cwd)" = $m/link-multi ]; do :; done
        umount $m 2>&1 || echo busy
        umount -l $m && findmnt $m || echo detached
        kill $sleeper; wait $sleeper 2>/dev/null || true
        mount $m; umount -f $m; findmnt $m || echo forced
    """
    done = machine.run(script, machine.line("_netdev"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "busy" in lines and lines[-2:] == ["detached", "forced"]


REMOUNTS = """
    touch $m/link-single/before && rm $m/link-single/before
    mount -o remount,ro $m || echo refused
    touch $m/link-single/after 2>/dev/null && echo written
    mount -o remount,rw $m || echo refused
    touch $m/link-single/after && rm $m/link-single/after && echo written again
    mount -o remount,password=wrong $m || echo refused
    cat $m/link-multi/hello.txt
    cat $m/link-secret/hello.txt 2>/dev/null || echo not with that one
    mount -o remount,password={password} $m || echo refused
    cat $m/link-secret/hello.txt
    umount $m
"""
"""A server that no session is with sees the password that counts now."""
REMOUNTED = ["written again", "hello from data", "not with that one", "hello from secret"]


@pytest.mark.parametrize("by_hand", [False, True], ids=["fstab", "by hand"])
def test_remounts(machine: Machine, by_hand: bool) -> None:
    """By hand, mount(8) knows only what the kernel shows, allow_other for one, and gives all of it back."""
    remounts = REMOUNTS.format(password=machine.lab.credentials[1])
    if by_hand:
        words = f"mount -t dfsfs {machine.lab.root_unc} $m -o uid=1,actimeo=0,credentials={machine.credentials}"
        done = machine.run(f"{words}\n{remounts}")
    else:
        done = machine.run(f"mount $m\n{remounts}", machine.line("uid=bin,actimeo=0"))
    assert done.stdout.splitlines() == REMOUNTED, done.stderr
    assert machine.lab.credentials[1] not in done.stderr


def test_a_line_of_the_kernels_client_is_taken_as_it_is(machine: Machine) -> None:
    """With whatever people have in such lines, and what /proc/mounts has of a mount of it."""
    pasted = (
        "rw,relatime,vers=3.1.1,cache=strict,uid=0,noforceuid,gid=0,noforcegid,file_mode=0755,dir_mode=0755,soft,"
        "nounix,serverino,mapposix,rsize=4194304,wsize=16777216,bsize=1048576,echo_interval=60,actimeo=1,closetimeo=1,"
        "acl,noacl,rwpidforward,sfu,nomfsymlinks,noserverino,nostrictsync,ver=1,prefixpath=link-single/folder"
    )
    done = machine.run("mount $m\ncat $m/inside.txt\numount $m", machine.line(pasted))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (machine.lab.host("fs1").share_path("data") / "folder" / "inside.txt").read_text()


def test_what_programs_call_the_type(machine: Machine) -> None:
    script = """
        mount $m
        df -t fuse.dfsfs --output=target | tail -1
        findmnt -n -t fuse.dfsfs -o TARGET $m
        umount -t fuse.dfsfs $m && findmnt $m || echo gone
    """
    done = machine.run(script, machine.line("ro"))
    assert done.stdout.splitlines() == [str(machine.mountpoint)] * 2 + ["gone"], done.stderr


def test_a_user_without_a_runtime_folder_can_ask_a_mount(machine: Machine) -> None:
    program = machine.for_others()
    run = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups env -u XDG_RUNTIME_DIR HOME=/"
    script = f"""
        # A /tmp of its own, for everybody, with what of this test is in the other one.
        mkdir {machine.folder}/tmp
        mount -t tmpfs -o mode=1777 tmpfs {machine.folder}/tmp
        case {machine.folder} in /tmp/*)
            mkdir -p {machine.folder}{machine.folder}
            mount --rbind {machine.folder} {machine.folder}{machine.folder} ;;
        esac
        mount --move {machine.folder}/tmp /tmp
        {run} {program} mount {machine.lab.root_unc} $m -o credentials={machine.credentials} || exit 9
        {run} {program} status $m | head -1
        {program} status $m | head -1
        stat -c %a:%u /tmp/dfsfs-{NOBODY}
        {run} fusermount3 -u $m
        timeout 30 sh -c 'while [ -e /tmp/dfsfs-{NOBODY} ]; do sleep 0.1; done' && echo nothing left
    """
    done = machine.run(script)
    line = f"{machine.mountpoint} is {machine.lab.root_unc}"
    assert done.stdout.splitlines() == [line, line, f"700:{NOBODY}", "nothing left"], done.stderr


def test_a_mistake_is_one_line_and_the_code_of_mount(machine: Machine) -> None:
    done = machine.run("mount $m || echo $?", machine.line("actimoe=1"))
    assert done.stdout == "1\n"
    assert "unknown option 'actimoe'; did you mean 'actimeo'?" in done.stderr
    assert machine.lab.credentials[1] not in done.stdout + done.stderr


def test_a_normal_user_mounts_with_fusermount(machine: Machine) -> None:
    program = machine.for_others()
    run = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups env XDG_RUNTIME_DIR={machine.folder}/run HOME=/"
    script = f"""
        mkdir {machine.folder}/run && chown {NOBODY} {machine.folder}/run
        {run} {program} mount {machine.lab.root_unc} $m -o credentials={machine.credentials} || exit 9
        {run} cat $m/link-multi/hello.txt
        {run} {program} status $m | head -1
        {run} fusermount3 -u $m && echo unmounted
        timeout 30 sh -c 'until rmdir {machine.folder}/run/dfsfs 2>/dev/null; do sleep 0.1; done' && echo nothing left
    """
    done = machine.run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "hello from data",
        f"{machine.mountpoint} is {machine.lab.root_unc}",
        "unmounted",
        "nothing left",
    ]


def test_a_line_for_users(machine: Machine) -> None:
    """`user` in fstab: mount(8) is set-user-ID root, and starts the helper as the user."""
    machine.for_others()
    run = f"setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups env XDG_RUNTIME_DIR= HOME=/"
    script = f"""
        {run} mount $m || exit 9
        {run} cat $m/link-multi/hello.txt
        findmnt -no OPTIONS $m | tr , '\\n' | grep -x -e nosuid -e nodev -e noexec -e user_id={NOBODY}
        {run} fusermount3 -u $m && echo unmounted
    """
    done = machine.run(script, machine.line("user,noauto"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "hello from data"
    assert set(done.stdout.splitlines()[1:]) == {"nosuid", "nodev", "noexec", f"user_id={NOBODY}", "unmounted"}


def test_in_a_container_that_has_no_more_than_the_device(machine: Machine) -> None:
    """Root of a user namespace: no rights on the machine, no /run of its own, no fusermount."""
    program = machine.for_others()
    mount = f"{program} mount {machine.lab.root_unc} $m -o credentials={machine.credentials}"
    script = f"""
        setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups unshare --user --map-root-user --mount --fork --pid \\
            sh -c 'm={machine.mountpoint}; {mount} && cat $m/link-multi/hello.txt; umount $m && echo unmounted'
    """
    done = machine.run(script)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["hello from data", "unmounted"]
