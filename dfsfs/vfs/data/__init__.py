"""Data: open files, and what is read and written ahead of or behind their programs."""
