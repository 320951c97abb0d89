"""What a run tells: its figures' names, and the console, files and services that show them."""
