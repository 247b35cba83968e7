"""File system test suites of others, run on mounts: see `scripts/suites --help` and docs/suites.md."""
