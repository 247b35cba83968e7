"""A mount: it is assembled from its configuration, served, and taken down again."""
