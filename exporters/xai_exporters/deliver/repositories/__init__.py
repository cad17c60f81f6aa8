"""Model repositories that inference servers load as they are: one file per server."""
