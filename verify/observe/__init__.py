"""The kernel that runs: traces of a real machine's memory offlining, recorded and checked against the guarantee."""
