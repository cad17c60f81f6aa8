"""One file per target; see `base.Target`."""
