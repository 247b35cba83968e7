"""One mount: made from its configuration, served and taken down again."""
