"""Quality of the emoji model's pictures, and the pictures that show it."""
