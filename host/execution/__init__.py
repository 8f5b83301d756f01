"""Running a prompt: order, cache, calls of nodes, and the messages about it."""
