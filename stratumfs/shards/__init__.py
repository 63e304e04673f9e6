"""Shard files on devices, behind one small interface."""
