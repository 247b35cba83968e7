"""Every order in which two operations can meet: see explorer.py."""
