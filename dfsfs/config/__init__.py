"""What a mount is asked to be: the text of `-o` and of credentials files, checked and turned into a MountConfig.

    text of -o -> parse_options -> ParsedOptions -> make_config (with the user who mounts, and the login) -> MountConfig

    table        every option, declared once; values reads what stands after the =
    syntax       a text of -o, split into options
    options      ParsedOptions from those, checked
    credentials  the file of credentials=, user names
    place        what is mounted
    assembly     the MountConfig, which model declares
    redaction    texts without passwords
    errors       ConfigError: all that commands need which read no options

Everything here is pure: files, the environment and the user database are read by the command, which hands over what it
found. The last of several settings counts. An option of the command line or of fstab comes before the environment, and
that before a credentials file. An error is a ConfigError of one line that names the option; no message has a password
in it, nor what looks like the rest of one.
"""
