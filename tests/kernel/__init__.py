"""Tests of several layers together, up to real mounts."""
