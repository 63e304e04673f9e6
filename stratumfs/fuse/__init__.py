"""The FUSE door: a thin shell over the store. Only ``session`` touches pyfuse3's global state."""
