"""`uec report`: one HTML page of one or several runs, that needs nothing but a browser."""
