"""The machine and the process: environment variables, files, the terminal, Ray jobs, the hub, user code, hardware."""
