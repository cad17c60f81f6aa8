"""One file per target; see `target.Target`."""
