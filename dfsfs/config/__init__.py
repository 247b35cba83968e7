"""What a mount is asked to be: the text of `-o` and of credentials files, checked and turned into a MountConfig.

    text of -o -> parse_options -> ParsedOptions -> make_config (with the user who mounts, and the login) -> MountConfig

    table        every option, declared once; values reads what stands after the =
    syntax       a text of -o, split into options
    options      ParsedOptions from those, checked
    credentials  the file of credentials=, user names
    place        what is mounted
    assembly     the MountConfig, which model declares
    redaction    texts without passwords

Everything here is pure: files, the environment and the user database are read by the command, which hands over what it
found. The last of several settings counts. An option of the command line or of fstab comes before the environment, and
that before a credentials file. An error is a ConfigError of one line that names the option; no message has a password
in it, nor what looks like the rest of one.
"""

from dfsfs.config.assembly import Mounter, make_config
from dfsfs.config.credentials import CredentialsFile, parse_credentials, split_username
from dfsfs.config.errors import ConfigError
from dfsfs.config.options import fields_of, parse_options
from dfsfs.config.place import join_prefix, parse_unc
from dfsfs.config.redaction import extract_secrets, mask_secrets

__all__ = [
    "ConfigError",
    "CredentialsFile",
    "Mounter",
    "extract_secrets",
    "fields_of",
    "join_prefix",
    "make_config",
    "mask_secrets",
    "parse_credentials",
    "parse_options",
    "parse_unc",
    "split_username",
]
