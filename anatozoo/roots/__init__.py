"""Root systems of plants: from masks to graphs, over time, and as RSML files."""
