"""One file per peer, and what runs them side by side; see `scripts/bench_peers`.

Files named after a package are its adapters. They run in that package's own environment, so `counterpart`, `torch_network`,
`worker` and the adapters need numpy and the package they are for, nothing of xai-deploy. They import that package only when they
are called, because the driver reads their `REQUIREMENTS` and `COUNTERPARTS` without the package.
"""
