"""Finds and mends what crashes and bad disks leave."""
