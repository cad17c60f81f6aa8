"""The fuzzers: `campaign` hands mutated inputs to `worker` processes, which run one of `targets` on each."""
