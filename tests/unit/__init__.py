"""Tests without sockets or waiting; the folders mirror dfsfs/."""
