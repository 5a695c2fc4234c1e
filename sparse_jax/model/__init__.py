"""The transformer: configuration, sites, hooks, layers and the one forward function."""
