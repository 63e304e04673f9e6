"""Who calls, and whether the bytes are what was signed: the one gate that hands out request bodies."""
