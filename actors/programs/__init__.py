"""The programs that the commands start: a training run, an evaluation, the doctor's round trip, a dry run."""
