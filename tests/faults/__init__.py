"""Instruments that do to files and runs what the world does, and campaigns that use them.

disk.py       a disk that fails at the n-th operation; one that loses power
hostile.py    checkpoints that were damaged or made to deceive, and configurations
killer.py     a run that is killed, or gets signals, again and again; runs that race for one file
commands.py   every command with broken streams, odd locales, a full disk, signals; much text
campaigns.py  what is tried, how often in every test run and how often in the long one
long.py       python tests/faults/long.py: all campaigns at length, as a table
mutations.py  python tests/faults/mutations.py: do the tests notice when a safeguard is missing?
"""
