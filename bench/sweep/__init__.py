"""What a sweep costs beside its jobs."""
