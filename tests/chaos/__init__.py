"""Long tests: processes killed, frozen and cut off at random, and the books held against the provider's bill."""
