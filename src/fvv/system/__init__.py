"""Processes, cores, streams and plain files of the machine."""
