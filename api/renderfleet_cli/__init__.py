"""The command line, and the same as kubectl plugin: the fleet by REST, or straight from the cluster."""
