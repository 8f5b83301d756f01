"""The configuration of a scheduler: settings read from and written to other schedulers and files."""
