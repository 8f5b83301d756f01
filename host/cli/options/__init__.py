"""The options of the commands. Nothing here imports torch, so that `--help` answers at once."""
