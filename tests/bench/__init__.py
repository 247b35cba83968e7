"""scripts/bench: dfsfs and other ways to reach the same files, side by side in one run. See __main__.py."""
