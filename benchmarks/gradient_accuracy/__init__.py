"""What gradients on few bits cost in accuracy: the list of runs, their store, how they train, and the page that they become.

`benchmarks/gradients.py` is the command.
"""
