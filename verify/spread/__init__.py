"""Work that is spread over machines: ``--scheduler tcp://…`` of a Dask cluster."""
