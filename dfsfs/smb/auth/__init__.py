"""Logins: who logs in and with what, and the GSS exchanges of NTLM and Kerberos."""
