"""Tests of dfsfs.vfs."""
