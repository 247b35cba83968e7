"""The mounted namespace: junctions, the resolution of paths, and the way from one target to another."""
