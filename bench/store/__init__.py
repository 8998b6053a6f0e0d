"""The folder of records: files, leases, log, status, cleaning and archives."""
