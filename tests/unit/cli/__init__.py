"""Tests of dfsfs.cli."""
