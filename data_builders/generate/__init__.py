"""Generated stand-ins for data sets, one file each."""
