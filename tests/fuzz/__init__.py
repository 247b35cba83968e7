"""Decoders of bytes from the network, under atheris: python -m tests.fuzz.referrals --help."""
