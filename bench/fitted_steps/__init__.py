"""What fitted steps gain on the demo model."""
