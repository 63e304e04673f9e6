"""The object store: where both doors meet. It has heard of neither errno nor S3."""
