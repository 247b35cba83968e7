"""Mount options, from their text to a MountConfig."""

from __future__ import annotations

import dataclasses
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.credentials import CredentialsFile, parse_credentials, split_username
from dfsfs.config.errors import ConfigError
from dfsfs.config.model import CONNECT_TIMEOUT, ParsedOptions
from dfsfs.config.options import parse_options
from dfsfs.config.place import join_prefix, parse_unc
from dfsfs.config.redaction import extract_secrets
from dfsfs.config.table import BY_NAME, DIALECTS, GROUPS, OPTIONS, SECRETS, Policy, Sharing
from dfsfs.smb.auth.credentials import Credentials, Secret
from dfsfs.unc import UncPath

USERS = {"alice": 1001}
GROUPS_OF_SYSTEM = {"staff": 50}
ALICE = Mounter(1001, 100, USERS.__getitem__, GROUPS_OF_SYSTEM.__getitem__)
ROOT = Mounter(0, 0, USERS.__getitem__, GROUPS_OF_SYSTEM.__getitem__)
WHO = Credentials("alice", Secret("pw"), "")

MARK = "Tr0ub4dor&3"
"""A password that no message of ours has in it by chance."""


def changed(text: str) -> dict[str, Any]:
    """The fields that an option text sets to something else than the default."""
    options, default = parse_options([text]), ParsedOptions()
    names = [field.name for field in dataclasses.fields(ParsedOptions)]
    return {name: getattr(options, name) for name in names if getattr(options, name) != getattr(default, name)}


# -- the table --------------------------------------------------------------------------------------------------------


def test_options_set_fields_that_exist() -> None:
    fields = {field.name for field in dataclasses.fields(ParsedOptions)}
    for option in OPTIONS:
        assert {*option.sets, *option.settings} <= fields, option.names


def test_every_field_is_set_by_some_option() -> None:
    set_by_options = {name for option in OPTIONS for name in (*option.sets, *option.settings)}
    fields = {field.name for field in dataclasses.fields(ParsedOptions)}
    assert fields - set_by_options == {"without_effect"}


def test_a_name_is_declared_once() -> None:
    forms = [(name, bool(option.metavar)) for option in OPTIONS for name in option.names]
    assert len(forms) == len(set(forms))
    assert [name for name, options in BY_NAME.items() if len(options) > 1] == ["user"]


def test_every_option_says_what_it_does() -> None:
    assert all(option.help and "," not in "".join(option.names) for option in OPTIONS)
    assert sum(len(options) for options in GROUPS.values()) == len(OPTIONS)
    assert {"password", "pass", "password2", "pass2"} == SECRETS


# -- what is accepted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", {}),
        (",,", {}),
        ("username=alice", {"username": "alice"}),
        ("password2=b,,c", {"password2": Secret("b,c")}),
        ("guest,sync,remount", {"guest": True, "synchronous": True, "remount": True}),
        ("hard,retrans=7", {"hard": True, "retries": 7}),
        ("hard,soft,sync,async", {}),
        ("nouser_xattr,user_xattr", {}),
        ("metrics=127.0.0.1:9000", {"metrics": "127.0.0.1:9000"}),
        ("metrics=:9000", {"metrics": ":9000"}),
        ("metrics=[::1]:9000", {"metrics": "[::1]:9000"}),
        ("metrics=/run/m.sock", {"metrics": "/run/m.sock"}),
        ("user=alice", {"username": "alice"}),
        ("username=LAB/alice", {"username": "alice", "domain": "LAB"}),
        ("username=LAB\\alice", {"username": "alice", "domain": "LAB"}),
        ("username=alice@lab.example", {"username": "alice@lab.example"}),
        ("domain=LAB,username=LAB\\alice", {"username": "alice", "domain": "LAB"}),
        ("password=x=y", {"password": Secret("x=y")}),
        ("pass=", {"password": Secret("")}),
        ("password=a,,b,ro", {"password": Secret("a,b"), "read_only": True}),
        ("password=a,,,ro", {"password": Secret("a,"), "read_only": True}),
        ("password=,,", {"password": Secret(",")}),
        ("password=one,password=two", {"password": Secret("two")}),
        ("credentials=/etc/cred", {"credentials_file": "/etc/cred"}),
        ("cred=/a=b", {"credentials_file": "/a=b"}),
        ("dom=LAB", {"domain": "LAB"}),
        ("workgroup=LAB", {"domain": "LAB"}),
        ("sec=ntlmssp", {}),
        ("sec=ntlmsspi", {}),
        ("uid=5,gid=staff", {"uid": 5, "gid": "staff"}),
        ("uid=5,uid=6", {"uid": 6}),
        ("forceuid,noforcegid", {}),
        ("file_mode=0640,dir_mode=2750", {"file_mode": 0o640, "dir_mode": 0o2750}),
        ("noperm", {"permission_checks": False}),
        ("noperm,default_permissions", {}),
        ("nomapposix", {"name_style": "none"}),
        ("mapchars", {"name_style": "sfu"}),
        ("mfsymlinks", {"mfsymlinks": True}),
        ("nouser_xattr", {"xattrs": False}),
        ("snapshot=@GMT-1970.01.01-00.00.01", {"snapshot": 116_444_736_010_000_000}),
        ("snapshot=131234567890000000", {"snapshot": 131234567890000000}),
        ("nomapposix,mapposix", {}),
        ("nodfs", {"use_dfs": False}),
        ("dfs_max_hops=3", {"max_hops": 3}),
        ("dfs_site=Berlin", {"site": "Berlin"}),
        ("dfs_prefer=fs*.berlin;fs1", {"prefer": ("fs*.berlin", "fs1")}),
        (
            "dfs_pin=a/b://fs1/x,dfs_pin=//ns/dfs/c://fs2/y/z",
            {"pins": {"a/b": UncPath.parse("//fs1/x"), "//ns/dfs/c": UncPath.parse("//fs2/y/z")}},
        ),
        ("dfs_ttl_min=60,dfs_ttl_max=60", {"ttl_min": 60, "ttl_max": 60}),
        ("dfs_failback", {"failback": True}),
        ("dfs_failback,nodfs_failback", {"failback": False}),
        ("dfs_static=/etc/dfs.toml", {"static_file": "/etc/dfs.toml"}),
        ("dc=dc1.contoso.test:dc2", {"controllers": ("dc1.contoso.test", "dc2")}),
        ("cache=strict", {}),
        ("rasize=65536", {"read_ahead": 65536}),
        ("cache=none", {"cache_mode": "none"}),
        ("cache=loose,closetimeo=0", {"cache_mode": "loose", "close_time": 0.0}),
        ("noserverino", {"server_inode_numbers": False}),
        ("noserverino,serverino", {}),
        ("trustlease", {"trust_leases": True}),
        ("trustlease,notrustlease", {}),
        ("actimeo=0.5", {"attribute_timeout_file": 0.5, "attribute_timeout_directory": 0.5}),
        ("actimeo=5,acdirmax=60", {"attribute_timeout_file": 5.0, "attribute_timeout_directory": 60.0}),
        ("acregmax=7", {"attribute_timeout_file": 7.0}),
        ("noac", {"attribute_timeout_file": 0.0, "attribute_timeout_directory": 0.0}),
        ("rsize=65536,wsize=1048576", {"read_size": 65536, "write_size": 1048576}),
        ("vers=default", {}),
        ("vers=2.1", {"dialects": ("SMB_2_1",)}),
        ("vers=3", {"dialects": ("SMB_3_0", "SMB_3_0_2", "SMB_3_1_1")}),
        ("vers=3.0", {"dialects": ("SMB_3_0",)}),
        ("vers=3.02", {"dialects": ("SMB_3_0_2",)}),
        ("vers=3.1.1,seal", {"dialects": ("SMB_3_1_1",), "seal": True}),
        ("sign", {}),
        ("port=1445", {"port": 1445}),
        ("ip=10.0.0.1", {"address": "10.0.0.1"}),
        ("addr=[::1]", {"address": "::1"}),
        ("srcaddr=10.0.0.9", {"source": "10.0.0.9"}),
        ("hosts=fs1:10.0.0.1;FS2.lab:::1", {"hosts": {"FS1": "10.0.0.1", "FS2.LAB": "::1"}}),
        ("hosts=fs1:[fe80::1%eth0]", {"hosts": {"FS1": "fe80::1%eth0"}}),
        ("hosts=[2001:DB8::1]:10.0.0.1", {"hosts": {"2001:DB8::1": "10.0.0.1"}}),
        ("ip=[fe80::1%eth0]", {"address": "fe80::1%eth0"}),
        ("hosts=a:10.0.0.1,hosts=b:10.0.0.2", {"hosts": {"A": "10.0.0.1", "B": "10.0.0.2"}}),
        ("echo_interval=10", {"echo_interval": 10.0}),
        ("max_credits=100", {"max_credits": 100}),
        ("timeout=5,failover_timeout=0", {"timeout": 5.0, "failover_timeout": 0.0}),
        ("ro", {"read_only": True}),
        ("ro,rw", {}),
        ("nosymfollow", {"follow_symlinks": False}),
        ("nosymfollow,symfollow", {}),
        ("suid,dev,noexec", {"suid": True, "dev": True, "execute": False}),
        ("user", {"execute": False}),
        ("suid,users", {"execute": False}),
        ("user,exec,suid", {"suid": True}),
        ("allow_other", {"sharing": Sharing.EVERYBODY}),
        ("allow_other,allow_root", {"sharing": Sharing.ROOT}),
        ("noallow_other", {"sharing": Sharing.NOBODY}),
        ("foreground", {"foreground": True}),
        ("_netdev,noauto,nofail,defaults,auto,comment=a b,x-systemd.automount,x-gvfs-name=a", {}),
        ("noatime,relatime,nostrictsync,fsc,nobrl,soft,iocharset=utf8,netbiosname=X,servern=Y", {}),
        (
            "witness,multichannel,max_channels=4,witness",
            {"without_effect": ("witness", "multichannel", "max_channels")},
        ),
        ("frobnicate=1,sloppy", {}),
        ("sec=krb5", {"security": "krb5"}),
        ("sec=krb5i", {"security": "krb5"}),
        ("sec=krb5p", {"security": "krb5p"}),
        ("sec=krb5,cruid=bob", {"security": "krb5", "ticket_user": "bob"}),
        ("sec=krb5,ccache=DIR:/c", {"security": "krb5", "ccache": "DIR:/c"}),
        ("sec=krb5,keytab=/k,principal=a@B", {"security": "krb5", "keytab": "/k", "principal": "a@B"}),
        ("multiuser", {"multiuser": True}),
        ("nohardened", {"hardened": False}),
        ("login_hosts=*.contoso.com;fs?", {"login_hosts": ("*.contoso.com", "fs?")}),
        ("dns_suffix=contoso.com;.corp.test.", {"suffixes": ("contoso.com", "corp.test")}),
    ],
)
def test_accepted(text: str, fields: dict[str, Any]) -> None:
    assert changed(text) == fields


def test_several_texts_are_one_list() -> None:
    assert parse_options(["ro,uid=1", "uid=2,sloppy", "frobnicate"]) == parse_options(["ro,uid=2"])
    assert parse_options(["frobnicate"], sloppy=True) == ParsedOptions()


# -- what is refused --------------------------------------------------------------------------------------------------

NOT_BUILT = [
    "dynperm",
    "setuids",
    "cifsacl",
    "idsfromsid",
    "modefromsid",
    "backupuid=1",
    "backupgid=1",
]


@pytest.mark.parametrize("text", NOT_BUILT)
def test_what_is_not_built_is_refused(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options([text], sloppy=True)
    assert "this release of dfsfs does not have that yet" in str(caught.value)
    assert text.split("=")[0] in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("usernme=a", "unknown option 'usernme'; did you mean 'username'?"),
        ("frobnicate", "unknown option 'frobnicate'"),
        ("=x", "unknown option ''"),
        ("uid", "option 'uid' needs a value: uid=USER"),
        ("uid=", "option 'uid' needs a value: uid=USER"),
        ("uid=4294967295", "option 'uid=4294967295': the highest number is 4294967294"),
        ("ro=1", "option 'ro' takes no value"),
        ("port=0", "option 'port=0': it has to be a whole number from 1 to 65535"),
        ("port=٣", "option 'port=٣': it has to be a whole number"),
        ("port=1_0", "it has to be a whole number"),
        ("timeout=0", "it has to be a number of seconds from 1 to 3600"),
        ("timeout=1e3", "it has to be a number of seconds"),
        ("file_mode=799", "option 'file_mode=799': it has to be a mode in octal, like 0755"),
        ("vers=1.0", "option 'vers=1.0': SMB 1 is not secure"),
        ("vers=4", "option 'vers=4': it has to be one of default, 2.1, 3,"),
        ("sec=ntlm", "option 'sec=ntlm': this kind of login is not secure"),
        ("iocharset=iso8859-1", "it has to be one of utf8"),
        ("ip=fs1", "option 'ip=fs1': it has to be an IP address"),
        ("hosts=fs1", "it has to be NAME:ADDRESS"),
        ("hosts=;", "it has to be NAME:ADDRESS"),
        ("hosts=fs1:fs2", "the address of 'fs1' has to be an IP address"),
        ("username=LAB/", "option 'username' needs a name"),
        ("username=a\nb", "there is a control character in it"),
        ("username=a\udce4", "there is a byte in it that is no UTF-8"),
        ("domain=A,username=B/alice", "names another domain"),
        ("seal,vers=2.1", "encryption (seal, sec=krb5p) needs SMB 3.0"),
        ("dfs_ttl_min=61,dfs_ttl_max=60", "option 'dfs_ttl_min=61' is more than dfs_ttl_max=60"),
        ("dfs_pin=a/b", "option 'dfs_pin=a/b': it has to be PATH:TARGET"),
        ("dfs_pin=a://b", "the target '//b': //b names no share"),
        ("dfs_prefer=//fs1/data", "pattern of host names"),
        ("dc=:", "the name of a server"),
        ("password", "option 'password' needs a value: password=TEXT"),
    ],
)
def test_refused(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options([text])
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# -- secrecy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"password=a,{MARK}",
        f"password=a,{MARK}=b",
        f"password=a,{MARK},uid=5",
        f"password=a\n{MARK}",
        f"username=alice%{MARK}",
        f"passwrod={MARK}",
        "password=" + MARK * 50,
    ],
)
def test_no_message_has_a_password_in_it(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_options([text])
    assert MARK not in str(caught.value)


def test_what_follows_a_password_is_named_if_it_looks_like_an_option() -> None:
    with pytest.raises(ConfigError, match=r"unknown option 'usernme'; did you mean 'username'\? .*written twice"):
        parse_options(["password=x,usernme=a"])
    with pytest.raises(ConfigError, match=r"unknown option 'frobnicate' \(if it is part of the password"):
        parse_options(["password=x,frobnicate"])
    with pytest.raises(ConfigError, match="the option after the password is unknown, and is not shown here"):
        parse_options(["password=x,A7"])


def test_a_parsed_password_does_not_show() -> None:
    options = parse_options([f"password={MARK}"])
    config = make_config(UncPath(("a", "b")), options, Credentials("a", options.password or Secret("")), ALICE)
    assert MARK not in repr(options) + str(options) + repr(config)


@pytest.mark.parametrize(
    ("text", "clean", "secrets"),
    [
        ("", "", {}),
        ("ro", "ro", {}),
        ("a,password=x,,y,b=1", "a,b=1", {"password": "x,y"}),
        ("pass=1,password=2", "", {"password": "2"}),
        ("password=,ro", "ro", {"password": ""}),
        ("password", "", {"password": ""}),
        ("password2,,password=x", "", {"password": "x", "password2": ""}),
        ("ro,pass2=x,password=y", "ro", {"password": "y", "password2": "x"}),
    ],
)
def test_without_secrets(text: str, clean: str, secrets: dict[str, str]) -> None:
    assert extract_secrets(text) == (clean, {name: Secret(value) for name, value in secrets.items()})


@given(st.text(st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), max_size=40))
def test_any_password_can_be_given(password: str) -> None:
    text = "ro,password=" + password.replace(",", ",,") + ",uid=5"
    # A comma at the end can't be told from the one that ends the option.
    if not password.endswith(","):
        options = parse_options([text])
        assert options.password == Secret(password)
        assert options.uid == 5
        assert extract_secrets(text) == ("ro,uid=5", {"password": Secret(password)})


names = st.one_of(st.sampled_from(sorted(BY_NAME)), st.text(string.printable, max_size=10))
values = st.one_of(st.text(string.printable, max_size=12), st.sampled_from(["0", "1", "755", "3.0", "a:::1", "none"]))
option_texts = st.lists(st.one_of(names, st.builds("{}={}".format, names, values)), max_size=8).map(",".join)


@given(option_texts, option_texts, st.booleans())
def test_any_text_gives_options_or_a_config_error(before: str, after: str, sloppy: bool) -> None:
    text = f"{before},password={MARK},{after}"
    try:
        shown = repr(parse_options([text], sloppy=sloppy))
    except ConfigError as error:
        shown = str(error)
    assert MARK not in shown
    assert MARK not in extract_secrets(text)[0]


@given(option_texts)
def test_options_without_their_secrets_are_the_same_options(text: str) -> None:
    try:
        options = parse_options([text])
    except ConfigError:
        return
    clean, secrets = extract_secrets(text)
    assert (secrets.get("password"), secrets.get("password2")) == (options.password, options.password2)
    assert parse_options([clean]) == dataclasses.replace(options, password=None, password2=None)


# -- what is mounted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "components"),
    [
        ("//srv/ns", ("srv", "ns")),
        ("\\\\srv\\ns", ("srv", "ns")),
        ("//srv/ns/a/b/", ("srv", "ns", "a", "b")),
        ("//srv/my\\040share/a\\040b\\134c", ("srv", "my share", "a b", "c")),
        ("\\\\srv\\040\\x", ("srv", "040", "x")),
        ("//lab.example/ns\\sub", ("lab.example", "ns", "sub")),
        ("//srv/a@b", ("srv", "a@b")),
        ("//[2001:DB8::1]/ns/a", ("2001:db8::1", "ns", "a")),
        ("\\\\[fe80::1%eth0]\\ns", ("fe80::1%eth0", "ns")),
        ("//2001:db8::1/ns", ("2001:db8::1", "ns")),
    ],
)
def test_unc(text: str, components: tuple[str, ...]) -> None:
    assert parse_unc(text).components == components


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("//srv", "//srv names a server only"),
        ("//", "'//' is not of the form //SERVER/SHARE"),
        ("", "'' is not of the form"),
        ("srv:/export", "'srv:/export' is not of the form"),
        ("/srv/ns", "is not of the form"),
        ("//srv/n\udce4s", "a byte in it that is no UTF-8"),
        ("//srv/n\0s", "control character"),
        ("//srv/n\\012s", "control character"),
        ("//[srv]/ns", "[srv] is no IPv6 address in brackets"),
        ("//[10.0.0.1]/ns", "[10.0.0.1] is no IPv6 address in brackets"),
        (f"//alice:{MARK}@srv/ns", "user and password are options"),
        (f"smb://alice:{MARK}@srv/ns", "the first argument is not of the form"),
    ],
)
def test_not_a_unc(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_unc(text)
    assert expected in str(caught.value)
    assert MARK not in str(caught.value)


# -- credentials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CredentialsFile()),
        (
            "username=alice\npassword=pw\ndomain=LAB\n",
            CredentialsFile(username="alice", password=Secret("pw"), domain="LAB"),
        ),
        ("  \tusername=alice\r\n\tPassword= a=b, c \r\n", CredentialsFile("alice", Secret(" a=b, c "))),
        ("\ufeffuser=LAB\\alice", CredentialsFile("alice", domain="LAB")),
        ("# password=x\n\n ; y\nuser=alice\ndom=LAB", CredentialsFile("alice", domain="LAB")),
        # Of the value mount.cifs leaves nothing out (open_cred_file in its mount.cifs.c), whichever it is.
        ("password = x", CredentialsFile(password=Secret(" x"), spaced=(1,))),
        ("password2 =x ", CredentialsFile(password2=Secret("x "))),
        ("user = alice \ndom\t= LAB", CredentialsFile(" alice ", domain=" LAB", spaced=(1, 2))),
        # Names are told by how they begin.
        (
            "userid=alice\nPASSPHRASE=pw\npass2nd=p2\ndomainname=LAB",
            CredentialsFile("alice", Secret("pw"), "LAB", Secret("p2")),
        ),
        ("password=", CredentialsFile(password=Secret(""))),
        ("password=#1,,", CredentialsFile(password=Secret("#1,,"))),
        ("username=", CredentialsFile()),
    ],
)
def test_credentials_file(text: str, expected: CredentialsFile) -> None:
    assert parse_credentials(text, "f") == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"username=a\npasword={MARK}", "f line 2: a line has to begin with"),
        (f"{MARK}", "f line 1: a line has to begin with"),
        (f"password={MARK}\0", "f line 1: there is a line break or a NUL"),
        ("domain=a\tb", "f line 1: there is a control character"),
    ],
)
def test_bad_credentials_file(text: str, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_credentials(text, "f")
    assert expected in str(caught.value)
    assert MARK not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a", (None, "a")), ("D/a", ("D", "a")), ("D\\a", ("D", "a")), ("/a", ("", "a")), ("D/a/b", ("D", "a/b"))],
)
def test_split_username(text: str, expected: tuple[str | None, str]) -> None:
    assert split_username(text) == expected


# -- the whole --------------------------------------------------------------------------------------------------------


def test_defaults() -> None:
    config = make_config(UncPath(("srv", "ns")), ParsedOptions(), WHO, ALICE)
    assert config.ownership.uid == 1001
    assert config.ownership.gid == 100
    assert (config.ownership.file_mode, config.ownership.dir_mode) == (0o755, 0o755)
    assert config.caching.attribute_timeout_file == config.caching.attribute_timeout_directory == 1.0
    assert config.transport.port == 445
    assert config.transport.dialects == DIALECTS
    assert config.transport.request_timeout == 30.0
    assert config.transport.connect_timeout == CONNECT_TIMEOUT < 10
    assert config.transport.echo_interval == 60.0
    assert config.caching.server_inode_numbers and not config.caching.trust_leases
    assert config.name_style == "sfm" and config.xattrs and config.snapshot is None
    assert config.use_dfs
    assert config.fuse_options == ("nosuid", "nodev", "default_permissions")


@pytest.mark.parametrize(
    ("text", "mounter", "expected"),
    [
        ("", ROOT, ("nosuid", "nodev", "allow_other", "default_permissions")),
        ("noallow_other,noperm", ROOT, ("nosuid", "nodev")),
        ("allow_root,ro", ROOT, ("ro", "nosuid", "nodev", "allow_root", "default_permissions")),
        ("allow_other,suid,dev,noexec", ALICE, ("suid", "dev", "noexec", "allow_other", "default_permissions")),
        ("user", ALICE, ("nosuid", "nodev", "noexec", "default_permissions")),
    ],
)
def test_fuse_options(text: str, mounter: Mounter, expected: tuple[str, ...]) -> None:
    assert make_config(UncPath(("srv", "ns")), parse_options([text]), WHO, mounter).fuse_options == expected


def test_names_of_users_and_groups() -> None:
    config = make_config(UncPath(("srv", "ns")), parse_options(["uid=alice,gid=staff"]), WHO, ROOT)
    assert (config.ownership.uid, config.ownership.gid) == (1001, 50)
    for text, expected in (("uid=bob", "no user of that name"), ("gid=x", "no group of that name")):
        with pytest.raises(ConfigError, match=expected):
            make_config(UncPath(("srv", "ns")), parse_options([text]), WHO, ROOT)


def test_an_address_is_that_of_the_server_that_is_named() -> None:
    options = parse_options(["ip=10.0.0.1,hosts=fs1:10.0.0.2"])
    config = make_config(UncPath(("Srv", "ns")), options, WHO, ROOT)
    assert config.transport.hosts == {"SRV": "10.0.0.1", "FS1": "10.0.0.2"}


def test_a_short_timeout_is_one_for_connecting_too() -> None:
    config = make_config(UncPath(("srv", "ns")), parse_options(["timeout=3"]), WHO, ROOT)
    assert config.transport.connect_timeout == 3.0


def test_policies_are_all_in_use() -> None:
    assert {option.policy for option in OPTIONS} == set(Policy)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("prefixpath=docs", "//srv/ns/docs"),
        ("prefixpath=/docs/a b/", "//srv/ns/docs/a b"),
        ("prefixpath=docs\\\\a", "//srv/ns/docs/a"),
        ("ro", "//srv/ns"),
    ],
)
def test_a_path_below_the_share(text: str, expected: str) -> None:
    assert str(join_prefix(UncPath(("srv", "ns")), parse_options([text]))) == expected


@pytest.mark.parametrize("text", ["prefixpath=", "prefixpath=/", "prefixpath=a/../b"])
def test_a_path_that_is_none(text: str) -> None:
    with pytest.raises(ConfigError, match="prefixpath"):
        parse_options([text])
