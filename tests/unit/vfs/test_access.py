"""Who may be told what is known, in a mount of many users."""

from __future__ import annotations

from dfsfs.caller import ROOT, Caller, current_caller, override_caller, set_current_caller
from dfsfs.vfs.names.access import WITNESSES, AccessCache
from dfsfs.vfs.names.inodetable import Inode

ALICE, BOB = Caller(1, 1), Caller(2, 1)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_has_to_be_told_for_themselves() -> None:
    clock, inode = Clock(), Inode(2, "a", False)
    proofs = AccessCache(True, clock, lambda inode: 1.0)
    with override_caller(ALICE):
        assert not proofs.has(inode)
        proofs.grant(inode)
        assert proofs.has(inode)
    with override_caller(BOB):
        assert not proofs.has(inode)
        assert proofs.revoke(inode), "alice knows better"
    with override_caller(ALICE):
        clock.now += 0.99
        assert proofs.has(inode)
        clock.now += 0.02
        assert not proofs.has(inode)
        assert not proofs.revoke(inode), "nobody does any more"


def test_witnesses_are_those_who_were_told_last() -> None:
    clock, inode = Clock(), Inode(2, "a", False)
    proofs = AccessCache(True, clock, lambda inode: 1.0)
    for uid in (*range(1000), 990):
        clock.now += 0.2
        with override_caller(Caller(uid, uid)):
            proofs.grant(inode)
    last = (990, *(uid for uid in range(999, 999 - WITNESSES, -1) if uid != 990))
    assert proofs.others(inode) == last, "also those who were told too long ago to be told again"
    with override_caller(Caller(999, 999)):
        assert proofs.others(inode) == tuple(uid for uid in last if uid != 999)
        proofs.revoke(inode)
    assert proofs.others(inode) == tuple(uid for uid in last if uid != 999)


def test_with_one_login_there_is_nothing_to_prove() -> None:
    inode = Inode(2, "a", False)
    proofs = AccessCache(False, Clock(), lambda inode: 1.0)
    proofs.grant(inode)
    assert proofs.has(inode) and not proofs.revoke(inode) and inode.access_cache is None
    assert proofs.others(inode) == ()


def test_callers_nest() -> None:
    assert current_caller() == ROOT
    with override_caller(ALICE):
        with override_caller(BOB):
            assert current_caller() == BOB
        assert current_caller() == ALICE
        set_current_caller(BOB)
        assert current_caller() == BOB
    assert current_caller() == ROOT
