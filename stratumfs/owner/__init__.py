"""The one process that owns a store: its locks, its nursery, its doors, its control socket."""
