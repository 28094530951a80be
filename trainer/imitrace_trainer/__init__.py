"""Make clones from traces: curate, train, evaluate, gate, register, route, refresh. Import the modules themselves."""
