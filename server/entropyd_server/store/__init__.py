"""Where models live: one immutable object each."""
