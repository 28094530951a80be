"""Read trajectories out of files of many formats: readers on one side, one writer of spans on the other."""
