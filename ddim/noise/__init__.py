"""Where z of equation (12) comes from: keyed, drawn by generators, or recorded."""
