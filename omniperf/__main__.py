"""`python -m omniperf`."""

from omniperf.cli import main

main()
