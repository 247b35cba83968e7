"""Tests in a company's network: an Active Directory domain, Kerberos, many users."""
