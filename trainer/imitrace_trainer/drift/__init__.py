"""Compare a clone's training reference with recent traffic, and say which difference is more than chance."""
