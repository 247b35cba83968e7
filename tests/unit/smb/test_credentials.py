"""A Secret shows in nothing but reveal(); Credentials name the user as NTLM wants it."""

from __future__ import annotations

import copy
import pickle

import pytest

from dfsfs.smb.auth.credentials import Credentials, Secret

PASSWORD = "Tr0ub4dor&3"


@pytest.mark.parametrize("shown", [str, repr, "{}".format, "{:>40}".format, "{!r}".format, lambda s: f"{[s]}"])
def test_no_way_of_printing_shows_a_secret(shown: object) -> None:
    assert callable(shown)
    assert PASSWORD not in shown(Secret(PASSWORD))


def test_a_secret_reveals_itself_when_asked() -> None:
    assert Secret(PASSWORD).reveal() == PASSWORD


def test_secrets_compare_by_their_text() -> None:
    assert Secret("a") == Secret("a") and hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret(" ")


@pytest.mark.parametrize("store", [pickle.dumps, copy.copy])
def test_a_secret_cannot_be_stored(store: object) -> None:
    assert callable(store)
    with pytest.raises(TypeError, match="not to be stored"):
        store(Secret(PASSWORD))


def test_credentials_print_without_the_password() -> None:
    assert PASSWORD not in repr(Credentials("alice", Secret(PASSWORD), "LAB"))


def test_the_principal_names_the_domain_if_there_is_one() -> None:
    assert Credentials("alice", Secret("x"), "LAB").principal == "LAB\\alice"
    assert Credentials("alice@lab.test", Secret("x")).principal == "alice@lab.test"


def test_no_user_name_is_an_anonymous_user() -> None:
    assert Credentials("", Secret("")).is_anonymous
    assert not Credentials("alice", Secret("")).is_anonymous
