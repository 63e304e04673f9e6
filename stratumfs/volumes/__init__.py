"""Volumes: stripes over the shards of a tier's devices."""
