"""Code that both distributions use and that knows nothing of networks: options, schema, registry, files, exits, runtimes."""
