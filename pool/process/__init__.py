"""Processes that are not Python actors: each with a warden, so that no part of its tree is left."""
