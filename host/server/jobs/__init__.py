"""Jobs: accepted prompts, how they are stored, run and shown."""
