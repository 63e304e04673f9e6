"""Reed-Solomon coding and checksums: bytes in, bytes out."""
