"""Runs on a Dask cluster: a coordinator in the user's process, a lane in each of the cluster's workers."""
