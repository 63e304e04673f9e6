"""stratumfs: one store with two doors, a POSIX filesystem and an S3 service."""
