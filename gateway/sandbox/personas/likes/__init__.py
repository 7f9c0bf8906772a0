"""Likes: providers whose images API is nearly that of the simulated service beside them."""
