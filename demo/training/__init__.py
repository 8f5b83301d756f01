"""What a training consists of (`recipe`), its state (`state`), and the recipe of the digits."""
