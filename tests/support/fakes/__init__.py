"""Stand-ins for servers and for layers, with faults on demand."""
