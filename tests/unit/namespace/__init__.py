"""Tests of dfsfs.namespace."""
