"""Where bytes live, and why."""
