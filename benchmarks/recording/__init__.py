"""A recording of `pool demo`, drawn from what a real run writes on a terminal."""
