"""Object calls, one file each."""
