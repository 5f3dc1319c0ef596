"""What can be done to pools from outside their owners: find them, go on with them, end them."""
