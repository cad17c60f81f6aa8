"""Runs fused graphs on other runtimes: one file per runtime, each in an environment of its own (see `worker`)."""
