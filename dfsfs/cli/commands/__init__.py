"""The commands of `dfsfs`: a module for each, with a COMMAND. registry.py finds them by their names."""
