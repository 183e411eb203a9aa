"""Faults at random moments of captures, and a checker that proves what they must not do.

python -m tests.faults --schedule SEED      runs one schedule again, as a failing test names it
python -m tests.faults --first 0 --count 1000
"""
