"""Tests of dfsfs.dfsc."""
