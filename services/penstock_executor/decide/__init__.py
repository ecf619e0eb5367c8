"""Pure decisions of the executor: what a command becomes, what is kept, what an end means.

layout       where everything of an attempt lies, and whether a work item is sound
command      expressions and optional groups of the command line
environment  the variables a step sees
keeping      which bytes of its output are kept
metrics      what it logged, folded
outcome      what its end means, told plainly
"""
