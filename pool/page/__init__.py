"""The live page: a pool as a picture that follows along, in a browser, for reading only.

`Page` serves it from the process that holds the pool; `pool page` serves it for any pool in the
cluster. What is drawn is the JSON of `snapshot()` and of events, and nothing else: `story.py` folds
it into one picture with its past, `board.py` hands out what changed, `server.py` speaks HTTP.
"""

from pool.page.page import Page as Page

__all__ = ["Page"]
