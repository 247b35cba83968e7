"""Open files, and their data: caching, read-ahead, prefetch and writeback."""
