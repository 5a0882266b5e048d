"""Other people's agents: command-line clients, run whole inside an attempt's sandbox. One adapter a module."""
