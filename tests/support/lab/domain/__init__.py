"""A lab with a Windows-style domain: Samba domain controllers and members, each in a network namespace of its own."""
