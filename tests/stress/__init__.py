"""Programs that use a mount hard for as long as they are told to, and check every byte and every answer."""
