"""Many configurations at random: what is built of them, and in what time."""
