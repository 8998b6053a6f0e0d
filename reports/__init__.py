"""From the store of records to tables and figures; reads the store only, and runs nothing."""
