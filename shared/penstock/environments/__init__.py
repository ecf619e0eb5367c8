"""What Azure ML's environments are called, and what they hold: tables, and how they are read.

Data only: planner and executors look names up in it, nobody builds anything here.
"""
