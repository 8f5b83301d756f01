"""What `python -m host run` does beyond a single run in this process: sweeps, other engines, plans."""
