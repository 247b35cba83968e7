"""Tests of dfsfs."""
