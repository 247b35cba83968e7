"""Tests of dfsfs.smb."""
