"""The machine and the process: hardware, environment variables, files, the terminal, Ray jobs, the hub, and user code."""
