"""Tests of dfsfs.fuse."""
